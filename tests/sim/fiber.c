/*
 * Threads of the simulated process as fibers of one thread, and the scheduler: after every slice of a
 * fiber it looks at the rules (check_step) and lets the seed decide who is next: another fiber, one of the
 * kernels, or the network. When nobody can do anything it first looks at the rules of a world at rest
 * (check_quiet), then moves the clock to the next time somebody waits for.
 *
 * A fiber gives up its turn where it must wait, and at points (point.h: atomic steps of the engine; the
 * calls of the seam) after as many of them as the seed says. The thread calls of the C library that
 * the engine uses to start, wait and lock are taken over here (linker option --wrap).
 *
 * OpenSSL keeps its errors per thread, and all fibers are one: so while it works a fiber is masked.
 */
#include "tests/sim/sim.h"

#include "engine/shard.h"
#include "tests/sim/point.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef PH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define STACK_BYTES (512u * 1024u)
#define STEPS_MAX 6000000u

/*
 * Where a fiber goes on. swapcontext(3) would do everywhere, but asks the kernel for the signal mask at each
 * switch, which is most of a run's time; on x86-64 the registers that a call keeps are enough.
 */
#ifdef __x86_64__
struct context {
	void *stack;
};

void fiber_swap(void **from, void *to);
__asm__(".text\n"
	".type fiber_swap, @function\n"
	"fiber_swap:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size fiber_swap, . - fiber_swap\n");

static void context_swap(struct context *from, const struct context *to)
{
	fiber_swap(&from->stack, to->stack);
}

static void context_make(struct context *context, char *stack, size_t bytes, void (*begin)(void))
{
	/* Six registers, the address to return to, and the alignment that a function finds at its start. */
	uintptr_t *top = (uintptr_t *)(void *)(stack + bytes - 16);

	*--top = 0;
	*--top = (uintptr_t)begin;
	for (int i = 0; i < 6; i++)
		*--top = 0;
	context->stack = top;
}
#else
struct context {
	ucontext_t context;
};

static void context_swap(struct context *from, const struct context *to)
{
	(void)swapcontext(&from->context, &to->context);
}

static void context_make(struct context *context, char *stack, size_t bytes, void (*begin)(void))
{
	if (getcontext(&context->context) < 0)
		breach("no context");
	context->context.uc_stack.ss_sp = stack;
	context->context.uc_stack.ss_size = bytes;
	context->context.uc_link = NULL;
	makecontext(&context->context, begin, 0);
}
#endif

struct fiber {
	struct context context;
	char *stack;
	void *(*run)(void *);
	void *argument, *result;
	bool (*ready)(void *on); /* NULL: ready */
	void *on;
	uint64_t until_ns;
	uint64_t held_until; /* a step: it does not go on before, unless nobody else can */
	struct shard *self;
	uint32_t number;
	bool done, waiting, masked;
	uint32_t locks; /* held: what they guard is one step, as it is for real threads */
	int error;
	unsigned char *kept; /* a store that the others do not see yet, or NULL */
	unsigned char kept_value;
#ifdef PH_TSAN
	void *tsan;
#endif
};

int sim_countdown = 1 << 30;
void *sim_kept;

static struct fiber fibers[FIBERS_MAX];
static uint32_t fibers_count;
static struct fiber *running;
static struct context scheduler;
#ifdef FIBER_ASAN
static const void *scheduler_bottom;
static size_t scheduler_bytes;
#endif
#ifdef PH_TSAN
static void *scheduler_tsan;
#endif

uint32_t fiber_count(void)
{
	return fibers_count;
}

uint32_t fiber_number(void)
{
	return running != NULL ? running->number : FIBERS_MAX;
}

bool fiber_mask(bool masked)
{
	bool before = running != NULL && running->masked;

	if (running != NULL && before != masked) {
		running->masked = masked;
		sim_countdown = 1 + (int)random_below(2 * sim_rates.preempt);
	}
	return before;
}

/* ---- store buffers -------------------------------------------------------------------------- */

static void kept_out(struct fiber *fiber)
{
	if (fiber->kept != NULL)
		__atomic_store_n(fiber->kept, fiber->kept_value, __ATOMIC_SEQ_CST);
	fiber->kept = NULL;
}

void sim_kept_out(void)
{
	kept_out(running);
	sim_kept = NULL;
}

/* True: the store waits in the fiber's buffer. C11 allows it for all but sequentially consistent stores: other
 * loads of the thread may come first. What it stores later stays behind it (sim_order). */
bool sim_keep(void *at, unsigned char value, int order)
{
	if (running == NULL || running->masked || order == __ATOMIC_SEQ_CST || random_below(2) != 0)
		return false;
	running->kept = at;
	running->kept_value = value;
	sim_kept = at;
	return true;
}

static void kept_out_some(bool all)
{
	for (uint32_t i = 0; i < fibers_count; i++)
		if (fibers[i].kept != NULL && (all || random_below(4) == 0))
			kept_out(&fibers[i]);
}

/* ---- switching ------------------------------------------------------------------------------ */

static void fiber_leave(void)
{
	struct fiber *fiber = running;

	sim_kept = NULL;
	fiber->error = errno;
#ifdef FIBER_ASAN
	void *fake = NULL;

	__sanitizer_start_switch_fiber(
		fiber->done ? NULL : &fake, scheduler_bottom, scheduler_bytes);
#endif
#ifdef PH_TSAN
	__tsan_switch_to_fiber(scheduler_tsan, 0);
#endif
	context_swap(&fiber->context, &scheduler);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fake, &scheduler_bottom, &scheduler_bytes);
#endif
	errno = fiber->error;
}

static void fiber_begin(void)
{
	struct fiber *fiber = running;

#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &scheduler_bottom, &scheduler_bytes);
#endif
	fiber->result = fiber->run(fiber->argument);
	fiber->done = true;
	fiber_leave();
	abort();
}

static void fiber_enter(struct fiber *fiber)
{
	kept_out(fiber);
	running = fiber;
	fiber->waiting = false;
	fiber->ready = NULL;
	shard_self_set(fiber->self);
	sim_countdown = fiber->masked ? 1 << 30 : (int)(1 + random_below(2 * sim_rates.preempt));
#ifdef FIBER_ASAN
	void *fake = NULL;

	__sanitizer_start_switch_fiber(&fake, fiber->stack, STACK_BYTES);
#endif
#ifdef PH_TSAN
	__tsan_switch_to_fiber(fiber->tsan, 0);
#endif
	context_swap(&scheduler, &fiber->context);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
	fiber->self = shard_self();
	shard_self_set(NULL);
	running = NULL;
	sim_countdown = 1 << 30;
}

void sim_point_slow(void)
{
	if (running == NULL || running->masked || running->locks > 0) {
		sim_countdown = 1 << 30;
		return;
	}
	fiber_leave();
}

void fiber_yield(void)
{
	fiber_leave();
}

void fiber_wait(bool (*ready)(void *on), void *on, uint64_t until_ns)
{
	running->ready = ready;
	running->on = on;
	running->until_ns = until_ns;
	running->waiting = true;
	fiber_leave();
}

void fiber_hold(uint32_t steps)
{
	if (running->masked || running->locks > 0)
		return;
	running->held_until = sim_steps + steps;
	fiber_leave();
}

static bool never(void *on)
{
	(void)on;
	return false;
}

void fiber_sleep(uint64_t nanoseconds)
{
	fiber_wait(never, NULL, sim_now_ns + nanoseconds);
}

struct fiber *fiber_start(void *(*run)(void *), void *argument)
{
	struct fiber *fiber = &fibers[fibers_count];

	if (fibers_count == FIBERS_MAX)
		breach("more than %u threads", FIBERS_MAX);
	fiber->number = fibers_count++;
	fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (fiber->stack == MAP_FAILED)
		breach("no stack");
	fiber->run = run;
	fiber->argument = argument;
#ifdef PH_TSAN
	fiber->tsan = __tsan_create_fiber(0);
#endif
	context_make(&fiber->context, fiber->stack, STACK_BYTES, fiber_begin);
	return fiber;
}

static bool fiber_has_ended(void *on)
{
	return ((struct fiber *)on)->done;
}

void fiber_join(struct fiber *fiber)
{
	if (!fiber->done)
		fiber_wait(fiber_has_ended, fiber, SIM_NEVER);
	if (!fiber->done)
		breach("joined a thread that runs");
	if (fiber->stack == NULL)
		breach("joined a thread twice");
	munmap(fiber->stack, STACK_BYTES);
	fiber->stack = NULL;
#ifdef PH_TSAN
	__tsan_destroy_fiber(fiber->tsan);
#endif
}

/* ---- the scheduler -------------------------------------------------------------------------- */

static bool fiber_may_run(const struct fiber *fiber)
{
	if (fiber->done || fiber->held_until > sim_steps)
		return false;
	if (!fiber->waiting)
		return true;
	return fiber->until_ns <= sim_now_ns || fiber->ready(fiber->on);
}

static bool fibers_step(void)
{
	uint32_t may[FIBERS_MAX], count = 0;

	for (uint32_t i = 0; i < fibers_count; i++)
		if (fiber_may_run(&fibers[i]))
			may[count++] = i;
	if (count == 0)
		return false;
	fiber_enter(&fibers[may[random_below(count)]]);
	return true;
}

/* Nobody else can do anything: who stands still goes on. */
static bool fibers_release(void)
{
	bool any = false;

	for (uint32_t i = 0; i < fibers_count; i++) {
		any = any || fibers[i].held_until > sim_steps;
		fibers[i].held_until = 0;
	}
	return any;
}

static void world_rests(void)
{
	uint64_t next_ns = net_next_ns(), other_ns = rings_next_ns();

	kept_out_some(true);
	check_quiet();
	if (other_ns < next_ns)
		next_ns = other_ns;
	for (uint32_t i = 0; i < fibers_count; i++)
		if (!fibers[i].done && fibers[i].waiting && fibers[i].until_ns < next_ns)
			next_ns = fibers[i].until_ns;
	if (next_ns == SIM_NEVER)
		breach("hang: nobody can go on and nobody waits for a time");
	if (next_ns > sim_now_ns)
		sim_now_ns = next_ns;
}

void fiber_run_all(void)
{
#ifdef PH_TSAN
	scheduler_tsan = __tsan_get_current_fiber();
#endif
	while (!fibers[0].done) {
		uint32_t who = random_below(16);

		if (++sim_steps > STEPS_MAX)
			breach("hang: no end after %u steps", STEPS_MAX);
		sim_now_ns += random_below(20000);
		if (who < 3)
			(void)net_step(false);
		else if (who < 6)
			(void)rings_step(false);
		else if (!fibers_step() && !rings_step(true) && !net_step(true) &&
			!fibers_release())
			world_rests();
		kept_out_some(false);
		check_step();
	}
}

/* ---- the C library's thread calls, as the engine uses them ------------------------------------ */

int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *options, void *(*run)(void *), void *argument);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *options, void *(*run)(void *), void *argument)
{
	(void)options;
	if (fault(sim_rates.listen, SIM_start_failed))
		return EAGAIN;
	*thread = (pthread_t)(uintptr_t)fiber_start(run, argument);
	return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result)
{
	struct fiber *fiber = (struct fiber *)(uintptr_t)thread;

	fiber_join(fiber);
	if (result != NULL)
		*result = fiber->result;
	return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
	(void)thread, (void)name;
	return 0;
}

static bool semaphore_is_up(void *on)
{
	int value = 0;

	return sem_getvalue(on, &value) == 0 && value > 0;
}

int __wrap_sem_wait(sem_t *semaphore);
int __wrap_sem_wait(sem_t *semaphore)
{
	sim_point();
	while (sem_trywait(semaphore) < 0)
		fiber_wait(semaphore_is_up, semaphore, SIM_NEVER);
	return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	sim_point();
	if (running != NULL)
		running->locks++;
	if (pthread_mutex_trylock(mutex) != 0)
		breach("a lock is taken twice");
	return 0;
}

int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	int status = __real_pthread_mutex_unlock(mutex);

	if (running != NULL) {
		running->locks--;
		sim_countdown = 1 + (int)random_below(2 * sim_rates.preempt);
	}
	return status;
}
