/*
 * The handshake storm: many clients that give up after a second and come back at once, for ever. A hub that
 * worked through them in order would spend all its time on those that have just left. What must hold: most
 * of its capacity still goes into handshakes that end well, who is connected hardly notices, and when the
 * storm is over all is as before.
 *
 * The clients are one thread with an epoll loop, at the lowest priority: they stand for other machines, so
 * they get the processor time that the hub leaves. The peak is measured with the same clients, few of
 * them. Only the full form judges rates and delays.
 */
#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#define WAIT_MS 60000u
#define TIMEOUT_NS 1000000000ull
#define LOOK_NS 5000000ull /* between two looks for clients that give up */
#define SOURCES 200u /* source addresses: closed connections keep their port for a minute */
#define EVENTS 256

struct storm_client {
	int fd; /* -1: not connected */
	SSL *ssl;
	uint64_t begin_ns;
	bool has_greeted;
	uint32_t have; /* bytes of WELCOME */
};

struct storm {
	struct attack_run *run;
	ph_address to;
	SSL_CTX *context;
	struct storm_client *clients;
	uint32_t count;
	int epoll;
	pthread_t thread;
	atomic_bool is_ending;
	_Atomic uint64_t done, given_up, turned_away, tried;
	_Atomic int error; /* of a socket that could not be made */
};

/* Over a while: good handshakes a second, and what one of them cost everybody but the clients. */
struct storm_rate {
	double per_second;
	double hub_us;
};

/* ---- one client -------------------------------------------------------------------------- */

static void client_end_now(struct storm_client *client)
{
	SSL_free(client->ssl);
	client->ssl = NULL;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

static void client_begin(struct storm *storm, struct storm_client *client)
{
	uint32_t number = (uint32_t)(client - storm->clients);
	const struct sockaddr_in source = {.sin_family = AF_INET,
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK + 1 + number % SOURCES)}};
	const struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = storm->to.sin6_port,
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	struct epoll_event wanted = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = number};
	int one = 1;

	atomic_fetch_add(&storm->tried, 1);
	client->begin_ns = attack_now_ns();
	client->has_greeted = false;
	client->have = 0;
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (client->fd < 0 ||
		setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) <
			0 ||
		setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
		bind(client->fd, (const struct sockaddr *)&source, sizeof(source)) < 0 ||
		(connect(client->fd, (const struct sockaddr *)&to, sizeof(to)) < 0 &&
			errno != EINPROGRESS)) {
		atomic_store(&storm->error, errno);
		client_end_now(client);
		return;
	}
	client->ssl = SSL_new(storm->context);
	if (client->ssl == NULL || SSL_set_fd(client->ssl, client->fd) != 1 ||
		SSL_set_tlsext_host_name(client->ssl, ATTACK_SNI) != 1 ||
		epoll_ctl(storm->epoll, EPOLL_CTL_ADD, client->fd, &wanted) < 0) {
		atomic_store(&storm->error, ENOMEM);
		client_end_now(client);
	}
}

enum step {
	STEP_WAIT,
	STEP_DONE,
	STEP_LOST,
};

static enum step step_of(const struct storm_client *client, int status)
{
	int error = SSL_get_error(client->ssl, status);

	ERR_clear_error();
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? STEP_WAIT
									     : STEP_LOST;
}

/* As far as it goes: TLS, greeting, WELCOME. */
static enum step client_step(struct storm_client *client)
{
	uint8_t message[2 * CLIENT_MESSAGE_BYTES_MAX], answer[1024];
	size_t bytes, moved = 0;
	int status;

	if (!SSL_is_init_finished(client->ssl)) {
		status = SSL_connect(client->ssl);
		if (status != 1)
			return step_of(client, status);
	}
	if (!client->has_greeted) {
		bytes = client_auth_info(message, ATTACK_GROUP, "storm");
		bytes += client_connect_message(message + bytes, 4);
		status = SSL_write_ex(client->ssl, message, bytes, &moved);
		if (status != 1)
			return step_of(client, status);
		client->has_greeted = true;
	}
	while (client->have < 8) {
		status = SSL_read_ex(client->ssl, answer, sizeof(answer), &moved);
		if (status != 1)
			return step_of(client, status);
		client->have += (uint32_t)moved;
	}
	return STEP_DONE;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void storm_event(struct storm *storm, struct storm_client *client)
{
	enum step step;

	if (client->fd < 0)
		return; /* an event of a socket that is gone */
	step = client_step(client);
	if (step == STEP_WAIT)
		return;
	atomic_fetch_add(step == STEP_DONE ? &storm->done : &storm->turned_away, 1);
	client_end_now(client);
	client_begin(storm, client);
}

/* Who has waited for a second gives up and is back at once. */
static void storm_look(struct storm *storm)
{
	uint64_t now_ns = attack_now_ns();

	for (uint32_t i = 0; i < storm->count; i++) {
		struct storm_client *client = &storm->clients[i];

		if (client->fd >= 0 && now_ns < client->begin_ns + TIMEOUT_NS)
			continue;
		if (client->fd >= 0)
			atomic_fetch_add(&storm->given_up, 1);
		client_end_now(client);
		client_begin(storm, client);
	}
}

static void *storm_main(void *argument)
{
	struct epoll_event events[EVENTS];
	struct storm *storm = argument;
	uint64_t look_ns = 0;

	/* Refused, it only disturbs the hub more. */
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19);
	while (!atomic_load(&storm->is_ending)) {
		int count = epoll_wait(storm->epoll, events, EVENTS, 5);

		for (int i = 0; i < count; i++)
			storm_event(storm, &storm->clients[events[i].data.u32]);
		if (attack_now_ns() >= look_ns) {
			storm_look(storm);
			look_ns = attack_now_ns() + LOOK_NS;
		}
	}
	for (uint32_t i = 0; i < storm->count; i++)
		client_end_now(&storm->clients[i]);
	return NULL;
}

static bool storm_start(struct storm *storm, struct attack_run *run, const struct victim *victim,
	SSL_CTX *context, uint32_t count)
{
	memset(storm, 0, sizeof(*storm));
	storm->run = run;
	storm->to = victim->secure;
	storm->context = context;
	storm->count = count;
	storm->clients = calloc(count, sizeof(*storm->clients));
	storm->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; storm->clients != NULL && i < count; i++)
		storm->clients[i].fd = -1; /* the first look begins them */
	if (storm->clients != NULL && storm->epoll >= 0 &&
		pthread_create(&storm->thread, NULL, storm_main, storm) == 0)
		return true;
	attack_fault(run, "a storm cannot be started");
	free(storm->clients);
	if (storm->epoll >= 0)
		close(storm->epoll);
	return false;
}

static void storm_stop(struct storm *storm)
{
	atomic_store(&storm->is_ending, true);
	pthread_join(storm->thread, NULL);
	close(storm->epoll);
	free(storm->clients);
	if (atomic_load(&storm->error) != 0)
		attack_fault(
			storm->run, "a client's socket: %s", strerror(atomic_load(&storm->error)));
}

/* ---- the attack -------------------------------------------------------------------------- */

static uint64_t cpu_of(clockid_t clock)
{
	struct timespec used;

	if (clock_gettime(clock, &used) < 0)
		return 0;
	return (uint64_t)used.tv_sec * 1000000000ull + (uint64_t)used.tv_nsec;
}

/* CPU of the hubs: of all threads but the clients' and the one that measures. */
static uint64_t hubs_cpu_ns(const struct storm *storm)
{
	clockid_t clients;

	if (pthread_getcpuclockid(storm->thread, &clients) != 0)
		return 0;
	return attack_cpu_ns() - cpu_of(clients) - cpu_of(CLOCK_THREAD_CPUTIME_ID);
}

struct storm_mark {
	uint64_t at_ns, done, cpu_ns;
};

static struct storm_mark mark_set(const struct storm *storm)
{
	return (struct storm_mark){attack_now_ns(), atomic_load(&storm->done), hubs_cpu_ns(storm)};
}

static struct storm_rate rate_since(const struct storm *storm, const struct storm_mark *begin)
{
	struct storm_mark end = mark_set(storm);
	double done = (double)(end.done - begin->done);

	return (struct storm_rate){done * 1e9 / (double)(end.at_ns - begin->at_ns),
		(double)(end.cpu_ns - begin->cpu_ns) / 1e3 / (done > 0 ? done : 1)};
}

/* Of `count` clients over ms, after a tenth of it. */
static struct storm_rate storm_rate(struct attack_run *run, const struct victim *victim,
	SSL_CTX *context, uint32_t count, uint32_t ms)
{
	struct storm_rate rate = {0};
	static struct storm storm;
	struct storm_mark begin;

	if (!storm_start(&storm, run, victim, context, count))
		return rate;
	attack_sleep_ms(ms / 10);
	begin = mark_set(&storm);
	attack_sleep_ms(ms);
	rate = rate_since(&storm, &begin);
	storm_stop(&storm);
	return rate;
}

struct storm_figures {
	struct storm_rate peak, goodput, after;
	uint64_t idle_ns, during_ns, after_ns; /* p99 of an established connection's echo */
};

static void figures_judge(struct attack_run *run, const struct storm_figures *figures)
{
	double share = figures->goodput.per_second / figures->peak.per_second;

	attack_seen(run, "peak %.0f/s, storm %.0f/s (%.0f %%), afterwards %.0f/s",
		figures->peak.per_second, figures->goodput.per_second, 100 * share,
		figures->after.per_second);
	attack_seen(run, "hub's CPU for a good one %.0f us at the peak, %.0f us in the storm",
		figures->peak.hub_us, figures->goodput.hub_us);
	attack_seen(run, "echo p99 idle %.2f ms, storm %.2f ms, afterwards %.2f ms",
		(double)figures->idle_ns / 1e6, (double)figures->during_ns / 1e6,
		(double)figures->after_ns / 1e6);
	if (share < 0.8)
		attack_fault(run, "goodput is %.0f %% of the peak", 100 * share);
	if (figures->during_ns > 2 * figures->idle_ns)
		attack_fault(run, "an echo's p99 is %.1f times that of an idle hub",
			(double)figures->during_ns / (double)figures->idle_ns);
	if (figures->after.per_second < 0.8 * figures->peak.per_second)
		attack_fault(run, "afterwards the rate is %.0f %% of the peak",
			100 * figures->after.per_second / figures->peak.per_second);
}

static uint64_t echo_p99(struct honest *honest, uint32_t ms)
{
	honest_measure(honest, ms, 20);
	return histogram_quantile(honest->delay, 990);
}

static void storm_run(struct attack_run *run, struct victim *victim, struct honest *honest,
	SSL_CTX *context, uint32_t count)
{
	struct storm_figures figures = {.idle_ns = 0};
	uint32_t ms = attack_size(run, 20000, 2000, 2000);
	static struct storm storm;
	struct storm_mark begin;

	if (run->is_full) {
		figures.idle_ns = echo_p99(honest, 5000);
		figures.peak = storm_rate(run, victim, context, 32, 8000);
	}
	if (!storm_start(&storm, run, victim, context, count))
		return;
	attack_sleep_ms(ms / 5);
	begin = mark_set(&storm);
	if (run->is_full)
		figures.during_ns = echo_p99(honest, ms);
	else
		attack_sleep_ms(ms);
	figures.goodput = rate_since(&storm, &begin);
	attack_memory(run);
	(void)honest_ask(honest, WAIT_MS, "meanwhile");
	/* In the full form honest newcomers would take what is measured: they come at its end. */
	(void)!(honest_dial(honest, 8) && honest_wait(honest, WAIT_MS, "meanwhile"));
	storm_stop(&storm);
	attack_seen(run, "%llu tries, %llu done, %llu gave up, %llu turned away",
		(unsigned long long)atomic_load(&storm.tried),
		(unsigned long long)atomic_load(&storm.done),
		(unsigned long long)atomic_load(&storm.given_up),
		(unsigned long long)atomic_load(&storm.turned_away));
	(void)!(honest_dial(honest, 8) && honest_wait(honest, WAIT_MS, "afterwards"));
	if (run->is_full) {
		figures.after = storm_rate(run, victim, context, 32, 5000);
		figures.after_ns = echo_p99(honest, 5000);
		figures_judge(run, &figures);
	}
}

void attack_storm(struct attack_run *run)
{
	uint32_t count = attack_size(run, 2000, 300, 60), honest_count = run->is_full ? 64 : 8;
	/* One core for the hub, one for everybody else. */
	struct ph_options options = {.shard_count = 1, .connections_per_shard = 16384};
	SSL_CTX *context = pki_client(run->pki, "storm");
	static struct victim victim;
	static struct honest honest;

	memset(&victim, 0, sizeof(victim));
	attack_tried(run, "%u clients with a time-out of 1 s and no back-off", count);
	if (run->is_full)
		attack_expected(run,
			"goodput 80 %% of the peak, echo p99 at most twice idle, then "
			"as before; honest newcomers get in");
	else
		attack_expected(run, "honest peers are served and get in, all ends");
	if (context != NULL && victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, honest_count + 16, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		storm_run(run, &victim, &honest, context, count);
		(void)honest_ask(&honest, WAIT_MS, "afterwards");
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	SSL_CTX_free(context);
}
