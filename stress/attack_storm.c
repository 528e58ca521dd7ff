/*
 * The handshake storm: many clients that give up after a second and come back at once, for ever. A hub that
 * worked through them in order would spend all its time on those that have just left. What must hold: most
 * of its capacity still goes into handshakes that end well, who is connected hardly notices, and when the
 * storm is over all is as before.
 *
 * Where there are two processors or more the hub has the first one alone, and all others have the rest.
 * The clients are one thread; where they share the hub's processor it has the lowest priority, for they stand
 * for other machines. The established connections' thread goes before all others, in every phase, for it
 * measures the hub's delay and not its own. The peak is the best of a ramp: the same clients, few of them. Only the full form judges rates and
 * delays.
 */
#include "attack_client.h"
#include "attack_impatient.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 60000u
#define ECHOES_PER_SECOND 20u /* of each established connection */
#define RECOVERY_STEP_MS 50u
#define RECOVERY_MS 10000u /* after this long a hub has not recovered */

/* ---- who runs where ---------------------------------------------------------------------- */

struct places {
	cpu_set_t all, hub, others;
	bool is_split, is_refused;
};

/* What is started from now on runs there; and so does this thread. */
static void place_take(struct places *places, const cpu_set_t *where)
{
	if (places->is_split && sched_setaffinity(0, sizeof(*where), where) < 0)
		places->is_refused = true;
}

static void places_init(struct places *places)
{
	memset(places, 0, sizeof(*places));
	if (sched_getaffinity(0, sizeof(places->all), &places->all) < 0)
		return;
	places->others = places->all;
	for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&places->hub) == 0; cpu++) {
		if (!CPU_ISSET(cpu, &places->all))
			continue;
		CPU_SET(cpu, &places->hub);
		CPU_CLR(cpu, &places->others);
	}
	places->is_split = CPU_COUNT(&places->others) > 0;
}

/* This thread and those it starts go before all others, as far as is allowed; returns how. */
static const char *priority_take(void)
{
	const struct sched_param first = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_FIFO, &first) == 0)
		return "real time";
	if (setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -20) == 0)
		return "nice -20";
	return "ordinary: delays are the machine's, too";
}

static void priority_give_back(void)
{
	const struct sched_param ordinary = {.sched_priority = 0};

	/* Giving up a priority is always allowed. */
	(void)sched_setscheduler(0, SCHED_OTHER, &ordinary);
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 0);
}

/* ---- measuring --------------------------------------------------------------------------- */

/* At one moment, everything so far. */
struct storm_mark {
	uint64_t at_ns, done, clients_ns, hub_ns;
	uint64_t begun, secured; /* TLS handshakes of the hub: ServerHello made, finished */
};

/* Between two of them, and the delays meanwhile. */
struct storm_rate {
	double per_second;
	double hub_us; /* CPU of the hub for a good handshake */
	double hub_share, clients_share; /* of one processor */
	double unfinished; /* share of the handshakes begun */
	uint64_t p50_ns, p99_ns; /* of an established connection's echo */
	uint32_t clients;
};

struct storm_figures {
	struct storm_rate idle, peak, storm, after;
	double recovery_ms; /* negative: it did not come */
};

struct storm {
	struct attack_run *run;
	struct victim *victim;
	struct honest *honest;
	SSL_CTX *context;
	struct places places;
	struct impatient crowd;
};

static uint64_t cpu_of(clockid_t clock)
{
	struct timespec used;

	if (clock_gettime(clock, &used) < 0)
		return 0;
	return (uint64_t)used.tv_sec * 1000000000ull + (uint64_t)used.tv_nsec;
}

static struct storm_mark mark_set(const struct storm *storm, bool is_crowded)
{
	struct ph_statistics stats;

	victim_stats(storm->victim, &stats);
	return (struct storm_mark){
		.at_ns = attack_now_ns(),
		.done = is_crowded ? atomic_load(&storm->crowd.done) : 0,
		.clients_ns = is_crowded ? impatient_cpu_ns(&storm->crowd) : 0,
		.hub_ns = cpu_of(atomic_load(&storm->victim->shard_clock)),
		.begun = atomic_load(&storm->victim->hellos),
		.secured = stats.handshakes_done,
	};
}

/* What happens in so long, while the established connections ask. */
static struct storm_rate rate_measure(struct storm *storm, bool is_crowded, uint32_t ms)
{
	struct storm_mark begin = mark_set(storm, is_crowded), end;
	double done, begun, took;

	honest_measure(storm->honest, ms, ECHOES_PER_SECOND);
	end = mark_set(storm, is_crowded);
	done = (double)(end.done - begin.done);
	begun = (double)(end.begun - begin.begun);
	took = (double)(end.at_ns - begin.at_ns);
	return (struct storm_rate){
		.per_second = done * 1e9 / took,
		.hub_us = (double)(end.hub_ns - begin.hub_ns) / 1e3 / (done > 0 ? done : 1),
		.hub_share = (double)(end.hub_ns - begin.hub_ns) / took,
		.clients_share = (double)(end.clients_ns - begin.clients_ns) / took,
		.unfinished = begun > 0 ? 1 - (double)(end.secured - begin.secured) / begun : 0,
		.p50_ns = histogram_quantile(storm->honest->delay, 500),
		.p99_ns = histogram_quantile(storm->honest->delay, 990),
		.clients = storm->crowd.count,
	};
}

static bool crowd_begin(struct storm *storm, uint32_t count)
{
	return impatient_start(&storm->crowd, storm->run, &storm->victim->secure, storm->context,
		count, !storm->places.is_split);
}

/* The best of a ramp: how many handshakes a second hub and clients can do here at all. */
static struct storm_rate peak_measure(struct storm *storm)
{
	struct storm_rate best = {0}, rate;

	for (uint32_t count = 4; count <= 128; count *= 2) {
		if (!crowd_begin(storm, count))
			return best;
		attack_sleep_ms(200);
		rate = rate_measure(storm, true, 2000);
		impatient_stop(&storm->crowd);
		if (rate.per_second > best.per_second)
			best = rate;
	}
	return best;
}

/* The storm is over: when do as many clients as at the peak get four fifths of it again? */
static double recovery_measure(struct storm *storm, const struct storm_rate *peak)
{
	uint64_t begin_ns = attack_now_ns(), done = 0, now_ns = begin_ns, before_ns;
	double rate = 0;

	while (rate < 0.8 * peak->per_second && now_ns < begin_ns + RECOVERY_MS * 1000000ull) {
		before_ns = now_ns;
		attack_sleep_ms(RECOVERY_STEP_MS);
		now_ns = attack_now_ns();
		rate = (double)(atomic_load(&storm->crowd.done) - done) * 1e9 /
			(double)(now_ns - before_ns);
		done = atomic_load(&storm->crowd.done);
	}
	return rate < 0.8 * peak->per_second ? -1 : (double)(now_ns - begin_ns) / 1e6;
}

/* ---- the attack -------------------------------------------------------------------------- */

static void rate_show(struct attack_run *run, const char *when, const struct storm_rate *rate)
{
	attack_seen(run, "%s %.0f/s, CPU hub %.0f %% (%.0f us a good one), clients %.0f %%", when,
		rate->per_second, 100 * rate->hub_share, rate->hub_us, 100 * rate->clients_share);
	if (rate->unfinished > 0.005)
		attack_seen(run, "%.0f %% of those begun not finished", 100 * rate->unfinished);
}

static void delay_show(struct attack_run *run, const char *when, const struct storm_rate *rate)
{
	attack_seen(
		run, "%s %.2f/%.2f", when, (double)rate->p50_ns / 1e6, (double)rate->p99_ns / 1e6);
}

static void figures_judge(struct attack_run *run, const struct storm_figures *figures)
{
	double share = figures->storm.per_second / figures->peak.per_second;

	attack_seen(run, "goodput %.0f %% of the peak of %u clients", 100 * share,
		figures->peak.clients);
	rate_show(run, "peak", &figures->peak);
	rate_show(run, "storm", &figures->storm);
	rate_show(run, "afterwards", &figures->after);
	attack_seen(run, "recovered in %.0f ms", figures->recovery_ms);
	delay_show(run, "echo p50/p99 ms: idle", &figures->idle);
	delay_show(run, "peak", &figures->peak);
	delay_show(run, "storm", &figures->storm);
	if (share < 0.8)
		attack_fault(run, "goodput is %.0f %% of the peak", 100 * share);
	if (figures->storm.p99_ns > 2 * figures->idle.p99_ns)
		attack_fault(run, "an echo's p99 is %.1f times that of an idle hub",
			(double)figures->storm.p99_ns / (double)figures->idle.p99_ns);
	if (figures->recovery_ms < 0)
		attack_fault(run, "after %u ms the hub has not recovered", RECOVERY_MS);
	if (figures->after.per_second < 0.8 * figures->peak.per_second)
		attack_fault(run, "afterwards the rate is %.0f %% of the peak",
			100 * figures->after.per_second / figures->peak.per_second);
}

static void storm_tell(const struct storm *storm)
{
	const struct impatient *crowd = &storm->crowd;

	attack_seen(storm->run,
		"%llu tries, %llu done, %llu gave up (%llu half way), %llu turned away",
		(unsigned long long)atomic_load(&crowd->tried),
		(unsigned long long)atomic_load(&crowd->done),
		(unsigned long long)atomic_load(&crowd->given_up),
		(unsigned long long)atomic_load(&crowd->late),
		(unsigned long long)atomic_load(&crowd->turned_away));
}

static void storm_run(struct storm *storm, uint32_t count)
{
	struct storm_figures figures = {.recovery_ms = -1};
	struct attack_run *run = storm->run;
	uint32_t ms = attack_size(run, 20000, 2000, 2000);

	if (run->is_full) {
		figures.idle = rate_measure(storm, false, 5000);
		figures.peak = peak_measure(storm);
	}
	if (!crowd_begin(storm, count))
		return;
	attack_sleep_ms(ms / 5);
	if (run->is_full)
		figures.storm = rate_measure(storm, true, ms);
	else
		attack_sleep_ms(ms);
	attack_memory(run);
	(void)honest_ask(storm->honest, WAIT_MS, "meanwhile");
	/* In the full form honest newcomers would take what is measured: they come at its end. */
	(void)!(honest_dial(storm->honest, 8) && honest_wait(storm->honest, WAIT_MS, "meanwhile"));
	impatient_stop(&storm->crowd);
	storm_tell(storm);
	if (run->is_full && crowd_begin(storm, figures.peak.clients)) {
		figures.recovery_ms = recovery_measure(storm, &figures.peak);
		figures.after = rate_measure(storm, true, 4000);
		impatient_stop(&storm->crowd);
		figures_judge(run, &figures);
	}
	(void)!(honest_dial(storm->honest, 8) && honest_wait(storm->honest, WAIT_MS, "afterwards"));
}

/* Other machines judge the hub's certificate, or do not: here it would be the clients' time. */
static int believe(X509_STORE_CTX *store, void *context)
{
	(void)store, (void)context;
	return 1;
}

/*
 * The decoding short cut that our own programs use is the process's, so it spares the clients' time, too.
 * Keys that were made before it is on do not go with those made after: the storm has an authority of its own.
 */
static struct pki *storm_pki(struct attack_run *run)
{
	const struct ph_options options = {
		.shard_count = 1, .connections_per_shard = 16, .flags = PH_HUB_TLS_FAST_DECODE};
	const struct ph_callbacks none = {.on_closed = NULL};
	struct ph_hub *hub = NULL;
	struct pki *pki = NULL;
	char why[PH_WHY_BYTES] = "the crypto library refused";

	if (ph_hub_start(&options, &none, &hub, why) < 0 || ph_hub_stop(hub, PH_ABORT) < 0 ||
		pki_create(&pki) < 0)
		attack_fault(run, "no authority for the storm: %s", why);
	return pki;
}

static void storm_attack(struct attack_run *run)
{
	uint32_t count = attack_size(run, 2000, 300, 60), honest_count = run->is_full ? 64 : 8;
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 16384,
		.flags = run->is_full ? PH_HUB_TLS_FAST_DECODE : 0};
	static struct victim victim;
	static struct honest honest;
	static struct storm storm;

	memset(&victim, 0, sizeof(victim));
	storm = (struct storm){.run = run, .victim = &victim, .honest = &honest};
	storm.context = pki_client(run->pki, "storm");
	attack_tried(run, "%u clients with a time-out of 1 s and no back-off", count);
	if (run->is_full)
		attack_expected(run,
			"goodput 80 %% of the peak, echo p99 at most twice idle, then "
			"as before; honest newcomers get in");
	else
		attack_expected(run, "honest peers are served and get in, all ends");
	if (storm.context == NULL) {
		attack_fault(run, "no context for the clients");
		return;
	}
	SSL_CTX_set_cert_verify_callback(storm.context, believe, NULL);
	if (run->is_full)
		places_init(&storm.places);
	place_take(&storm.places, &storm.places.hub);
	if (victim_start(&victim, run, &options)) {
		const char *priority = "";

		place_take(&storm.places, &storm.places.others);
		if (run->is_full)
			priority = priority_take();
		if (honest_start(&honest, &victim, honest_count + 16, false)) {
			(void)!(honest_dial(&honest, honest_count) &&
				honest_wait(&honest, WAIT_MS, "before"));
			storm_run(&storm, count);
			(void)honest_ask(&honest, WAIT_MS, "afterwards");
			honest_judge(&honest);
			honest_stop(&honest);
		}
		if (run->is_full) {
			priority_give_back();
			attack_seen(run, "%s; priority of who measures: %s",
				!storm.places.is_split || storm.places.is_refused
					? "hub and clients share processors"
					: "the hub has a processor of its own",
				priority);
		}
	}
	place_take(&storm.places, &storm.places.all);
	victim_stop(&victim);
	SSL_CTX_free(storm.context);
}

void attack_storm(struct attack_run *run)
{
	struct pki *pki = run->pki, *own = run->is_full ? storm_pki(run) : NULL;

	if (run->is_full && own == NULL)
		return;
	run->pki = own != NULL ? own : pki;
	storm_attack(run);
	run->pki = pki;
	pki_destroy(own);
}
