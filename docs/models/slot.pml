/*
 * The slot word: one connection slot, its owner shard, dialler, senders, closers, readers; the kernel is
 * only one operation here, its own model is close.pml, and the mailbox's is mailbox.pml. Checked exhaustively by tests/models.sh, which also checks that each of the switches below
 * is found out, and that every C function named here in brackets, as in [slot_free], is in engine/.
 *
 * word    { gen, state, dial, close, abort, upgraded, mailed, senders } as in engine/slot.h: what stands in one
 *         atomic block here is one step on the 64-bit word there (CAS, AND, or the store that begins
 *         a generation).
 * send    enter: senders+1 if (gen, OPEN, no close)  ->  push the chunk  ->
 *         leave: ONE step { senders-1, mailed=1 }. Who turned mailed from 0 to 1 pushes the link.
 * close   ONE step { close=1, mailed=1 } if (gen, OPENING or OPEN, no close).
 *         With a reason: ONE step { close=1, senders+1 }, no mail yet  ->  write the reason  ->  leave
 *         exactly like a sender. The owner reads the reason only when senders = 0.
 * abort   of a connection that is closing: ONE step { abort=1, upgraded=1, mailed=1 } if (gen, close, no
 *         abort). Whoever latches the cause later sees by `upgraded` that a graceful close came first.
 * cause   latched by the owner once: at the mail of a close, or when its own ending finds that a close
 *         has won. Its own ending latches another cause, only if its step to ENDING worked.
 * pin     enter like a sender  ->  read what the owner wrote before it opened the slot  ->  leave: ONE
 *         step { senders-1 }, with mailed=1 only if that very word says close or ENDING: then, and only
 *         then, the owner may be waiting for senders = 0.
 * dial    ONE store { OPENING, dial=1, mailed=1 } on a free slot that was taken  ->  push the link
 * mail    means "look at this slot": pop -> ONE step { old = word; mailed=0, dial=0 } -> take the
 *         chunks -> act on old.
 * owner   acts on the word at mail and at a completion, never otherwise. It opens (OPENING -> OPEN) and
 *         ends (-> ENDING) by ONE step each, only if no close is set: else the closer has won. It says
 *         goodbye after it saw close and senders = 0 in one load and THEN took the chunks once more.
 * free    ONE step: (close or ENDING), senders = 0, mailed = 0, kernel ops = 0  ->  FREE, gen+1
 * wake    poster: push; fence; if sleeping then wake.  owner: sleeping; fence; look again; wait
 *
 * What is asserted: the link is never in the mailbox twice; when the slot is freed nobody is inside and
 * the link is nowhere; a graceful close writes every chunk whose send returned 0 before its goodbye;
 * the reason is whole when the owner reads it; the cause that is reported is the winner's, upgraded or not; a pinned slot keeps its information; one winner and one
 * final event per generation; no wake-up is lost (the owner never sleeps for ever on unfinished work).
 *
 * VARIANT chooses who takes part, so that each run stays small: 1 senders and closers, 2 reasons and
 * aborts, 3 pins, 4 some of everything, 5 dials, 6 closes without words against aborts. FULL adds more threads to each (minutes, gigabytes).
 *
 * Switches that break the protocol, each of which must be found:
 *   LATE_MAIL     mail first, then leave: a close is then never finished
 *   HASTY         say goodbye at senders = 0 without taking the chunks after that look: some are lost
 *   EARLY_REASON  read the reason as soon as close is seen
 *   SILENT_PIN    a pin leaves without mail whatever the word says
 *   BLIND_OPEN    OPENING -> OPEN without regard to close: a close that was won gets lost
 *   SLEEPY        wait without a second look at the mailbox
 *   LOST_UPGRADE  an abort of a closing connection does not say that it is an upgrade
 */
#ifndef VARIANT
#define VARIANT 4
#endif
#define GENS 2

#define FREE 0
#define OPENING 1
#define OPEN 2
#define ENDING 3

/* the word */
byte gen = 0;
byte state = FREE;
bool dial = false, close = false, abort = false, upgraded = false, mailed = false;
byte senders = 0;

byte box = 0;                     /* links in the mailbox: this slot's one link, 0 or 1 */
byte chunks = 0;                  /* on the connection's chunk stack */
byte reason = 0;                  /* 0 none, 1 half written, 2 written */
byte info = 0;                    /* gen + 1 from before the opening until the slot is freed */
bool sleeping = false, woken = false;

/* the owner's own */
bool closing = false;             /* the connection is in CLOSING or DRAINING */
bool goodbye = false;             /* graceful: the goodbye is written */
bool aborting = false;            /* no goodbye: reset, or it never was open */
byte kernel_ops = 0;
byte cause = 0;                   /* latched: 0 not yet, 1 the owner's own, 2 a graceful close, 3 an abort */
bool mute = false;                /* this peer never ends anything: only mail wakes the owner */

/* The kernel owes a completion: connects have a time limit, cancelled operations end. */
#define COMPLETION_SURE (kernel_ops == 1 && \
	(state == OPENING && !closing || closing && (goodbye || aborting || !close)))
#define COMPLETION_MAYBE (kernel_ops == 1 && !closing && !mute)

/* for the assertions only */
byte accepted = 0, written = 0;   /* chunks whose send returned 0; chunks written before the goodbye */
bool reasoned = false;            /* the winner of this generation gives a reason */
bool won_abort = false;           /* the winner of this generation wanted a reset */
byte wins[GENS + 1], finals[GENS + 1];
byte live = 0;                    /* threads that still run */

/* [mailbox_post]: push, full fence, wake the owner if it sleeps (one poster wins) */
inline mailbox_post()
{
	assert(box == 0);
	box = 1;
	if
	:: sleeping ->
		atomic {
			if
			:: sleeping -> sleeping = false; woken = true
			:: else
			fi
		}
	:: else
	fi
}

/* [slot_send_leave]: one step, then the link if it was this step that turned mailed on */
inline slot_send_leave()
{
#ifdef LATE_MAIL
	atomic { first = !mailed; mailed = true }
	if
	:: first -> mailbox_post()
	:: else
	fi;
	atomic { assert(senders > 0); senders-- }
#else
	atomic { assert(senders > 0); senders--; first = !mailed; mailed = true }
	if
	:: first -> mailbox_post()
	:: else
	fi
#endif
}

/* [ph_send] on any thread */
proctype sender(byte g)
{
	bool in = false, first = false;

	atomic {                         /* [slot_send_enter] */
		if
		:: gen == g && state == OPEN && !close -> senders++; in = true
		:: else
		fi
	}
	if
	:: in ->
		assert(gen == g);
		chunks++;                /* pushed; the sender is counted, so the slot cannot move on */
		accepted++;
		slot_send_leave()
	:: else
	fi;
	live--
}

/* [ph_close] without words, on any thread, graceful or an abort from the start */
proctype closer(byte g; bool how_abort)
{
	bool won = false, first = false;

	atomic {                         /* [slot_close] */
		if
		:: gen == g && (state == OPENING || state == OPEN) && !close ->
			close = true; abort = how_abort; won = true; wins[g]++; first = !mailed; mailed = true;
			won_abort = how_abort
		:: else
		fi
	}
	if
	:: won && first -> mailbox_post()
	:: else
	fi;
	live--
}

/* [ph_close] with a reason, graceful or an abort from the start, on any thread */
proctype reasoner(byte g; bool how_abort)
{
	bool won = false, first = false;

	atomic {                         /* [slot_close_enter] */
		if
		:: gen == g && (state == OPENING || state == OPEN) && !close ->
			close = true; abort = how_abort; won = true; wins[g]++; senders++; reasoned = true;
			won_abort = how_abort
		:: else
		fi
	}
	if
	:: won ->
		assert(gen == g && reason == 0);
		reason = 1;
		assert(gen == g && reason == 1);
		reason = 2;
		slot_send_leave()
	:: else
	fi;
	live--
}

/* [ph_close] with PH_ABORT on a connection that is closing gracefully: -EALREADY, it now aborts */
proctype aborter(byte g)
{
	bool won = false, first = false;

	atomic {                         /* [slot_close] */
		if
		:: gen == g && close && !abort ->
			abort = true; won = true; first = !mailed; mailed = true;
#ifndef LOST_UPGRADE
			upgraded = true
#endif
		:: else
		fi
	}
	if
	:: won && first -> mailbox_post()
	:: else
	fi;
	live--
}

/* Look at a connection of another shard. */
proctype reader(byte g)
{
	bool in = false, first = false;

	atomic {                         /* [slot_pin] */
		if
		:: gen == g && state == OPEN && !close -> senders++; in = true
		:: else
		fi
	}
	if
	:: in ->
		assert(info == g + 1);
		assert(info == g + 1 && gen == g);
		atomic {                 /* [slot_unpin] */
			assert(senders > 0);
			senders--;
#ifndef SILENT_PIN
			if
			:: close || state == ENDING -> first = !mailed; mailed = true
			:: else
			fi
#endif
		}
		if
		:: first -> mailbox_post()
		:: else
		fi
	:: else
	fi;
	live--
}

/* [ph_open] on any thread: the free queue gives the slot to one taker, who alone may write it */
proctype dialler(byte g)
{
end_not_needed:
	atomic { gen == g && state == FREE -> live++ }
	info = g + 1;
	atomic {                         /* [slot_open] */
		assert(!close && !abort && !mailed && senders == 0);
		state = OPENING; dial = true; mailed = true
	}
	mailbox_post();
	live--
}

/* The owner reads the reason: for the goodbye's NOTICE or for on_closed. */
inline read_reason()
{
	assert(!reasoned || reason == 2);
	assert(reasoned || reason == 0)
}

/* [conn_latch_local]: the cause is the close that won, as the word in hand tells it */
inline latch_local(has_abort, was_upgraded)
{
	if
	:: cause == 0 && has_abort && !was_upgraded -> cause = 3
	:: cause == 0 && (!has_abort || was_upgraded) -> cause = 2
	:: cause != 0
	fi
}

inline choose_peer()
{
	if
	:: mute = true
	:: mute = false
	fi
}

/* A slot that the owner itself opens: accepted, verified, and open in one step here. */
inline accept_slot()
{
	info = gen + 1;
	state = OPEN;
	kernel_ops = 1;          /* one receive armed */
	choose_peer()
}

/* [slot_take_chunks]: one exchange */
inline take_chunks()
{
	d_step {
		if
		:: goodbye               /* too late for these: there must be none */
		:: else -> written = written + chunks
		fi;
		chunks = 0
	}
}

/* Once after each mail and each completion, never otherwise: what is missed here is lost. */
inline look()
{
	/* [conn_is_sent_out], [conn_goodbye]: who leaves after this look mails us again */
	if
	:: closing && close && !aborting && !goodbye && senders == 0 ->
#ifndef HASTY
		take_chunks();
#endif
		d_step { read_reason(); goodbye = true }
	:: else
	fi;
	/* [conn_close_join], [slot_is_quiet], [slot_free], then [conn_close_finish] */
	atomic {
		if
		:: closing && kernel_ops == 0 && senders == 0 && !mailed && (goodbye || aborting || !close) ->
			assert(close || state == ENDING);
			assert(box == 0 && chunks == 0 && !dial);
			read_reason();
			assert(!close || aborting || written == accepted);
			finals[gen]++;
			assert(finals[gen] == 1);
			assert(wins[gen] == close);      /* one winner, exactly if the end is local */
			assert(cause == (!close -> 1 : (won_abort -> 3 : 2)));
			closing = false; goodbye = false; aborting = false;
			reason = 0; reasoned = false; info = 0; written = 0; accepted = 0;
			cause = 0; won_abort = false;
			state = FREE; close = false; abort = false; upgraded = false;
			gen++;
#if VARIANT != 5
			if
			:: gen < GENS -> accept_slot()
			:: else
			fi
#endif
		:: else
		fi
	}
}

active proctype owner()
{
	bool o_dial, o_close, o_abort, o_upgraded;

	atomic {
#if VARIANT == 1
		run sender(0); run sender(0); run closer(0, false); run closer(0, false); live = 4;
#ifdef FULL
		run sender(1); run closer(1, false); live = live + 2;
#endif
#elif VARIANT == 2
		run reasoner(0, false); run reasoner(0, true); run sender(0); run aborter(0); live = 4;
#ifdef FULL
		run reasoner(1, false); run aborter(1); live = live + 2;
#endif
#elif VARIANT == 3
		run reader(0); run reader(0); run closer(0, false); run reader(1); live = 4;
#ifdef FULL
		run sender(0); run closer(1, false); live = live + 2;
#endif
#elif VARIANT == 4
		run reader(0); run sender(0); run reasoner(0, false); run aborter(0); live = 4;
#ifdef FULL
		run closer(0, false); run reader(1); live = live + 2;
#endif
#elif VARIANT == 6
		run closer(0, false); run closer(0, true); run aborter(0); run sender(0); live = 4;
#ifdef FULL
		run closer(1, false); run aborter(1); live = live + 2;
#endif
#else
		run dialler(0); run closer(0, false); run sender(0); run aborter(0); run dialler(1); live = 3;
#ifdef FULL
		run reasoner(0, false); run reader(1); live = live + 2;
#endif
#endif
#if VARIANT != 5
		accept_slot()
#endif
	}
	do
	/* [shard_drain_mail] */
	:: box == 1 ->
		box = 0;                 /* [mailbox_take]: link.next is read before mailed is cleared */
		d_step {                 /* [slot_take_mail] */
			o_dial = dial; o_close = close; o_abort = abort; o_upgraded = upgraded;
			mailed = false; dial = false
		}
		take_chunks();           /* after the clear */
		if
		:: o_dial && !o_close -> kernel_ops = 1      /* connect */
		:: else
		fi;
#ifdef EARLY_REASON
		if
		:: o_close -> read_reason()
		:: else
		fi;
#endif
		/* [conn_local_close], [conn_close_begin]: senders may still be inside; before OPEN there is no goodbye */
		if
		:: o_close ->
			latch_local(o_abort, o_upgraded);
			closing = true;
			if
			:: o_abort || state != OPEN -> aborting = true
			:: else
			fi
		:: else
		fi;
		look()

	/* the dialled connection is ready: WELCOME has come [slot_become_open] */
	:: kernel_ops == 1 && state == OPENING && !closing ->
		atomic {
			if
#ifdef BLIND_OPEN
			:: state = OPEN; close = false; choose_peer()
#else
			:: !close -> state = OPEN; choose_peer()
			:: close -> closing = true; aborting = true; latch_local(abort, upgraded)
#endif
			fi
		}
		look()

	/* the last completion of operations that were cancelled, or that the goodbye waited for */
	:: COMPLETION_SURE && closing ->
		kernel_ops = 0;
		look()

	/* the remote end, an error or a timer: one step on the word [slot_end], in [conn_claim]. If a close has won
	 * already, the owner goes on with that close at once, before its mail has come. */
	:: COMPLETION_MAYBE ->
		atomic {
			if
			:: !close -> state = ENDING; cause = 1
			:: close && state != OPEN -> aborting = true; latch_local(abort, upgraded)
			:: close && state == OPEN -> latch_local(abort, upgraded)
			fi;
			closing = true
		}
		kernel_ops = 0;
		look()

	:: live == 0 && gen == GENS -> break
	:: live == 0 && gen < GENS && state == OPEN && !close && box == 0 && !mailed ->
		break                    /* nobody closed it */

	/* [shard_wait], [mailbox_sleep], [mailbox_awake] */
	:: box == 0 ->
		sleeping = true;
		if
#ifndef SLEEPY
		:: box == 1
		:: else ->
#else
		:: true ->
#endif
			if
			:: woken
			:: COMPLETION_SURE || COMPLETION_MAYBE
			:: atomic {      /* nobody is left to wake us */
				live == 0 && box == 0 && !woken && !COMPLETION_SURE ->
				assert(!closing && !close && !mailed)
			   }
			fi
		fi;
		atomic { woken = false; sleeping = false }
	od
}
