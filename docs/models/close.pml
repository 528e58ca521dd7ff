/*
 * A close and the kernel: the owner's teardown of one connection slot against operations in flight, the
 * submission queue, late completions, descriptors and slots that are used again. Checked exhaustively by
 * tests/models.sh, which also checks that each switch below is found out, and that every C function
 * named here in brackets, as in [conn_close_join], is in engine/.
 *
 * owner   begins a life on a free descriptor (receive armed, perhaps a send in flight); closes it at any
 *         moment: quietly (cancel each by user_data, close) or by reset (disconnect, close), unlinked, in
 *         this order, as the submission queue has room, going on next turn where it had none; waits for
 *         the operations that it counts; frees the slot; begins the next life.
 * kernel  takes submissions in order, but completes what is armed whenever it likes: data with or without
 *         F_MORE, the end of the stream, the whole send or a part of it.
 *         cancel      hits (the target ends with -ECANCELED, the cancel is silent), or comes too late:
 *                     -EALREADY, the target ends by itself, before or after this answer; or -ENOENT
 *         disconnect  ends what is armed; or is refused, with an error, and ends nothing
 *         close       takes the descriptor out of the table and ends nothing: an armed operation holds
 *                     its own reference to the socket
 *
 * What is asserted: when the slot is freed the kernel holds no operation of that life and owes no counted
 * completion; a completion of another life is a silent one and changes nothing; data reach the life whose
 * socket they came from; a provided buffer goes back exactly once; a close takes out the descriptor of
 * its own life, once; operations are submitted for the own descriptor only; and every life comes to its
 * end (a dead end is a close that waits for ever).
 *
 * Switches that break it, each of which must be found:
 *   NO_CANCEL      a quiet close only closes
 *   CANCEL_ENDS    a receive counts as ended when its cancel is queued
 *   STRANGER       the same, and completions are not compared with the generation
 *   EALREADY_ENDS  a receive counts as ended when its cancel answers -EALREADY
 *   RECV_ONLY      the join does not wait for the send
 *   REFUSED        a refused disconnect is taken for one that worked
 *   DOUBLE_CLOSE   a close that found no submission entry begins again, after its close has been queued
 *   KEEP_BUFFER    data that arrive while closing keep their buffer
 */
#define FILES 2
#ifdef FULL
#define LIVES 3
#define DATA 4
#define QUEUE 3
#else
#define LIVES 2
#define DATA 2
#define QUEUE 2
#endif

mtype = { RECV, SEND, CANCEL_RECV, CANCEL_SEND, DISCONNECT, CLOSE, CANCEL };
mtype = { GOES_ON, ENDS, FAILED };

chan submit = [QUEUE] of { mtype, byte, byte };          /* operation, generation, descriptor */
chan complete = [8] of { mtype, byte, mtype, bool };     /* kind, generation, how, has a buffer */

byte file[FILES];                 /* the table: whose socket is there, generation or 0 */
byte armed_recv = 0, armed_send = 0;  /* in the kernel: generation or 0 */
byte late_recv = 0;               /* hit by a cancel too late: ends by itself, and soon */
byte buffers_out = 0;
byte data_left = DATA;

/* the owner's */
byte gen = 0;                     /* conn->generation; 0: before the first life */
byte at = 0;                      /* its descriptor */
bool live = false, closing = false, reset = false;
byte ops_recv = 0, ops_send = 0;
byte held = 0;                    /* provided buffers with input that is not looked at yet */
byte stage = 0;                   /* conn->close_stage */
bool queued = false;              /* conn->close_queued */

inline post(kind, generation, how, has_buffer)
{
	buffers_out = buffers_out + has_buffer;
	complete!kind, generation, how, has_buffer
}

inline recv_end(has_buffer)
{
	post(RECV, armed_recv, ENDS, has_buffer);
	armed_recv = 0;
	late_recv = 0
}

active proctype kernel()
{
	mtype kind;
	byte g, f;

end:
	do
	/* submissions, in order */
	:: atomic {
		submit?kind, g, f ->
		if
#ifdef STRANGER
		:: kind == RECV -> armed_recv = g
#else
		:: kind == RECV -> assert(file[f] == g && armed_recv == 0); armed_recv = g
#endif
		:: kind == SEND -> assert(file[f] == g && armed_send == 0); armed_send = g
		:: kind == CANCEL_RECV && armed_recv == g && late_recv == 0 ->
			if
			:: recv_end(false)
			:: late_recv = g; post(CANCEL, g, FAILED, false)         /* -EALREADY */
			fi
		:: kind == CANCEL_RECV && armed_recv == g && late_recv != 0 ->
			post(CANCEL, g, FAILED, false)
		:: kind == CANCEL_RECV && armed_recv != g -> post(CANCEL, g, ENDS, false) /* -ENOENT */
		:: kind == CANCEL_SEND && armed_send == g ->
			post(SEND, g, ENDS, false); armed_send = 0
		:: kind == CANCEL_SEND && armed_send != g -> post(CANCEL, g, ENDS, false)
		:: kind == DISCONNECT ->
			assert(file[f] == g);
			if
			:: true ->
				if
				:: armed_recv == g -> recv_end(false)
				:: else
				fi;
				if
				:: armed_send == g -> post(SEND, g, ENDS, false); armed_send = 0
				:: else
				fi
			:: true -> post(DISCONNECT, g, FAILED, false)
			fi
		:: kind == CLOSE -> assert(file[f] == g); file[f] = 0
		fi;
		kind = CLOSE; g = 0; f = 0
	   }
	/* what happens by itself; a late receive ends, with data or without */
	:: atomic {
		armed_recv != 0 && late_recv == 0 && data_left > 0 && nfull(complete) ->
		data_left--;
		if
		:: post(RECV, armed_recv, GOES_ON, true)
		:: recv_end(true)
		fi
	   }
	:: atomic { late_recv != 0 && nfull(complete) ->
		if
		:: recv_end(true)
		:: recv_end(false)
		fi
	   }
	:: atomic { armed_send != 0 && nfull(complete) ->
		post(SEND, armed_send, ENDS, false); armed_send = 0
	   }
	od
}

/* [conn_input_clear], and [conn_work] that has looked at all of it */
inline give_back()
{
	assert(buffers_out >= held);
	buffers_out = buffers_out - held;
	held = 0
}

/* [conn_close_join], [conn_close_finish]: after each completion and when the last operation is queued */
inline join()
{
	if
#ifdef RECV_ONLY
	:: closing && queued && ops_recv == 0 ->
#else
	:: closing && queued && ops_recv == 0 && ops_send == 0 ->
#endif
#ifndef STRANGER
		assert(armed_recv != gen && armed_send != gen);
#endif
		assert(held == 0);
		live = false; closing = false; reset = false; queued = false;
		stage = 0; ops_recv = 0; ops_send = 0
	:: else
	fi
}

/* [shard_on_completion], [conn_on_completion], [conn_on_recv], [conn_on_sent] */
inline on_completion()
{
	if
#ifndef STRANGER
	:: g != gen || !live ->
		assert(kind == CANCEL || kind == DISCONNECT)
	:: g == gen && live ->
#else
	:: !live -> buffers_out = buffers_out - buffer
	:: live ->
#endif
		if
		:: kind == RECV ->
			if
			:: how == ENDS && ops_recv > 0 -> ops_recv--
#ifndef STRANGER
			:: how == ENDS && ops_recv == 0 -> assert(false)
#endif
			:: else
			fi;
			if
			:: buffer && !closing -> assert(g == gen); held++
			:: buffer && closing ->
#ifndef KEEP_BUFFER
				assert(buffers_out > 0);
				buffers_out--
#endif
			:: !buffer
			fi
		:: kind == SEND -> assert(ops_send > 0); ops_send--
		:: kind == CANCEL ->
#ifdef EALREADY_ENDS
			if
			:: how == FAILED -> ops_recv = 0
			:: else
			fi
#else
			skip
#endif
		:: kind == DISCONNECT ->
#ifndef REFUSED
			/* end what is armed one by one; what found no entry is asked for again [conn_deadline] */
			refused = true
#else
			skip
#endif
		fi
	fi;
	join()
}

active proctype owner()
{
	mtype kind, how;
	byte g;
	bool buffer;
	bool refused = false;

	do
	/* a life begins: [conn_accept] or [conn_dial] on a descriptor that the kernel chose */
	:: atomic { !live && gen < LIVES && (file[0] == 0 || file[1] == 0) && nfull(submit) ->
		gen++;
		live = true;
		refused = false;
		if
		:: file[0] == 0 -> at = 0
		:: file[1] == 0 -> at = 1
		fi;
		file[at] = gen;
		submit!RECV, gen, at;            /* [conn_recv_arm] */
		ops_recv++
	   }
	:: atomic { live && !closing && ops_send == 0 && nfull(submit) ->
		submit!SEND, gen, at;            /* [conn_flush] */
		ops_send++
	   }
	:: atomic { live && !closing && held > 0 -> give_back() }  /* [conn_work] */
	:: atomic { live && !closing && ops_recv == 0 && nfull(submit) ->
		submit!RECV, gen, at;            /* ended with data: armed again */
		ops_recv++
	   }
	:: atomic { complete?kind, g, how, buffer ->
		on_completion();
		kind = CLOSE; how = ENDS; g = 0; buffer = false
	   }
	/* [conn_close_begin]: ph_close, a timer, the peer's end */
	:: atomic { live && !closing ->
		closing = true;
		if
		:: reset = true
		:: reset = false
		fi;
		give_back()
	   }
	/* [conn_close_queue]: as far as there are entries, one step of it at a time */
	:: atomic { closing && !queued && stage == 0 && reset && nfull(submit) ->
		submit!DISCONNECT, gen, at; stage = 2
	   }
#ifndef NO_CANCEL
	:: atomic { closing && !queued && stage == 0 && !reset && ops_recv > 0 && nfull(submit) ->
		submit!CANCEL_RECV, gen, at; stage = 1;
#if defined(CANCEL_ENDS) || defined(STRANGER)
		ops_recv = 0
#endif
	   }
	:: atomic { closing && !queued && stage == 0 && !reset && ops_recv == 0 -> stage = 1 }
#else
	:: atomic { closing && !queued && stage == 0 && !reset -> stage = 1 }
#endif
	:: atomic { closing && !queued && stage == 1 ->
		if
		:: ops_send > 0 && nfull(submit) -> submit!CANCEL_SEND, gen, at; stage = 2
		:: ops_send == 0 -> stage = 2
		fi
	   }
	:: atomic { closing && !queued && stage == 2 && nfull(submit) ->
		submit!CLOSE, gen, at;
#ifdef DOUBLE_CLOSE
		if
		:: full(submit) -> stage = 0
		:: nfull(submit) -> queued = true
		fi;
#else
		queued = true;
#endif
		join()
	   }
	/* a disconnect was refused: [ring_cancel] of each kind that is in flight, as often as it takes */
	:: atomic { closing && refused && ops_recv > 0 && armed_recv == gen && late_recv == 0 && nfull(submit) ->
		submit!CANCEL_RECV, gen, at
	   }
	:: atomic { closing && refused && ops_send > 0 && armed_send == gen && nfull(submit) ->
		submit!CANCEL_SEND, gen, at
	   }
	:: atomic { !live && gen == LIVES && empty(submit) && empty(complete) ->
		assert(buffers_out == 0);
		assert(file[0] == 0 && file[1] == 0);
		break
	   }
	od
}
