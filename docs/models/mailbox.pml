/*
 * The mailbox of a shard: posters, the owner, its sleep and its waking. Checked exhaustively by
 * tests/models.sh, which also checks that each switch below is found out, and that every C function
 * named here in brackets, as in [mailbox_post], is in engine/.
 *
 * Memory is weaker here than on any processor that we know: a store or a push goes into the store
 * buffer of its thread and reaches memory at some later step of its own; loads read memory. Only a full
 * fence [ph_fence_full] waits until the thread's own buffer is empty. A compare-and-swap acts on memory
 * at once; that the push itself is one is not relied upon.
 *
 * post    push the link; fence; if sleeping, then CAS sleeping true -> false; the winner writes the eventfd
 * take    all links at once into `taken` (the owner's own), then one after the other, at most TURN a turn
 * wait    re-arm the poll of the eventfd if the kernel has ended it; if nothing is taken: sleeping = true;
 *         fence; look at the stack again; wait only if it is empty; then sleeping = false
 * kernel  each write of the eventfd completes the armed poll. A full completion queue may end the poll
 *         (no F_MORE) together with a completion; nobody reads the eventfd, so once it has been written a
 *         poll that is armed again completes at once.
 *
 * What is asserted: no link is in the box twice, none is handled twice; and no state is a dead end before
 * every link has been handled: a dead end is an owner that waits for ever with mail in its box.
 *
 * VARIANT 1: three posters with a link each. 2: one poster that posts again and again as its link has
 * been taken, one with a single link, and a completion of the ring that wakes the owner between.
 *
 * Switches that break the protocol, each of which must be found:
 *   POSTER_NO_FENCE  the poster looks at `sleeping` before its push has reached memory
 *   OWNER_NO_FENCE   the owner looks at the stack before its `sleeping` has reached memory
 *   SLEEPY           the owner waits without the second look
 *   ONE_POSTER       only who found the stack empty looks at `sleeping`, and looks before it pushes
 *   FORGETFUL        the owner goes to sleep although it has taken mail that it has not handled
 *   NO_REARM         a poll that the kernel has ended is not armed again
 *   NO_WAKE          who wins the swap does not write the eventfd
 */
#ifndef VARIANT
#define VARIANT 1
#endif
#define TURN 1                    /* links handled in a turn: SHARD_MAIL_PER_TURN in small */
#if VARIANT == 1
#define POSTERS 3
#define ROUNDS 1
#else
#define POSTERS 2
#define ROUNDS 2
#endif
#define LINKS (POSTERS == 3 -> 3 : ROUNDS + 1)

byte box = 0;                     /* links in the stack, in memory */
byte taken = 0;                   /* popped, not yet handled: the owner's own */
byte handled = 0;
bool pushing[POSTERS];            /* a push in the poster's store buffer */
bool mine[POSTERS];               /* its link is in the box, in a buffer or taken: not to be pushed */
byte turn_of[POSTERS];            /* for the assertions: whose links wait where */

bool sleeping = false;            /* in memory */
chan buffer = [2] of { bool };    /* the owner's stores of `sleeping` that are under way, in order */

bool written = false;             /* the eventfd has been written at least once */
bool polled = false;              /* the poll is armed */
byte completions = 0;             /* wake completions in the queue; more than one is as good as one */
bool other = (VARIANT == 2);      /* one completion of some other operation is still to come */

/* What a store buffer does by itself, at any time: the push or store reaches memory. */
proctype memory()
{
	byte i;
end:
	do
	:: atomic { pushing[0] -> pushing[0] = false; box++ }
	:: atomic { pushing[1] -> pushing[1] = false; box++ }
#if POSTERS == 3
	:: atomic { pushing[2] -> pushing[2] = false; box++ }
#endif
	:: atomic { nempty(buffer) -> buffer?sleeping }
	od
}

/* [waker_wake]: the poll completes; the kernel may end it with that completion */
inline waker_wake()
{
	atomic {
		written = true;
		if
		:: polled ->
			completions = 1;
			if
			:: polled = false
			:: true
			fi
		:: else
		fi
	}
}

/* [mailbox_post] by whoever turned MAILED on; the link is free again when the owner has taken it */
proctype poster(byte me; byte rounds)
{
	byte round = 0;
	bool won;
	bool looks = true;

	do
	:: round == rounds -> break
	:: round < rounds && !mine[me] ->
		round++;
		won = false;
#ifdef ONE_POSTER
		looks = (box == 0);
#endif
		atomic {                         /* [stack_push] */
			assert(!mine[me] && !pushing[me]);
			mine[me] = true;
			pushing[me] = true
		}
#ifndef POSTER_NO_FENCE
		!pushing[me];                    /* [ph_fence_full] */
#endif
		if
		:: looks && sleeping ->
			atomic { won = sleeping; sleeping = false };
#ifndef NO_WAKE
			if
			:: won -> waker_wake()
			:: else
			fi
#endif
		:: !looks || !sleeping
		fi
	od
}

#define rounds_of(poster) ((poster) == 0 -> ROUNDS : 1)

/* [mailbox_take] of one link; which poster's does not matter, but each is handled once */
inline handle_one()
{
	atomic {
		taken > 0 -> taken--;
		handled++;
		assert(handled <= LINKS);
		if
		:: mine[0] && !pushing[0] && turn_of[0] < rounds_of(0) ->
			turn_of[0]++; mine[0] = false
		:: mine[1] && !pushing[1] && turn_of[1] < rounds_of(1) ->
			turn_of[1]++; mine[1] = false
#if POSTERS == 3
		:: mine[2] && !pushing[2] && turn_of[2] < rounds_of(2) ->
			turn_of[2]++; mine[2] = false
#endif
		fi
	}
}

active proctype owner()
{
	byte left;

	atomic {
		run memory();
		run poster(0, ROUNDS);
		run poster(1, 1);
#if POSTERS == 3
		run poster(2, 1);
#endif
	}
	do
	:: handled == LINKS -> break
	:: handled < LINKS ->
		/* [shard_wait]: arm the poll; an eventfd that has been written is readable for ever */
		atomic {
			if
#ifndef NO_REARM
			:: !polled ->
				polled = true;
				if
				:: written -> completions = 1
				:: else
				fi
#else
			:: !polled && !written -> polled = true
#endif
			:: else
			fi
		}
		/* [mailbox_sleep] */
		if
#ifndef FORGETFUL
		:: taken > 0
		:: taken == 0 ->
#else
		:: true ->
#endif
			buffer!true;
#ifndef OWNER_NO_FENCE
			empty(buffer);           /* [ph_fence_full] */
#endif
			if
#ifndef SLEEPY
			:: box > 0
			:: box == 0 ->
#else
			:: true ->
#endif
				/* [ring_enter] waits for one completion */
				if
				:: completions > 0
				:: atomic { other -> other = false }
				fi
			fi;
			buffer!false             /* [mailbox_awake] */
		fi;
		completions = 0;                 /* [shard_decode]; a poll without F_MORE is noted */
		/* [shard_drain_mail], [stack_take_all] */
		left = TURN;
		do
		:: left == 0 -> break
		:: left > 0 ->
			if
			:: taken == 0 -> atomic { taken = box; box = 0 }
			:: taken > 0
			fi;
			if
			:: taken > 0 -> handle_one(); left--
			:: taken == 0 -> break
			fi
		od
	od
}
