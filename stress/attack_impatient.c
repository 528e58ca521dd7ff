/* Clients without patience; see attack_impatient.h. */
#include "attack_impatient.h"

#include "attack_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#define TIMEOUT_NS 1000000000ull
#define HOPELESS_NS 800000000ull /* whose turn comes later is left to its time-out */
#define LOOK_NS 2000000ull /* between two looks for clients that give up */
#define LOOK_MAX 16u /* clients that one look begins anew: meanwhile the others' answers wait */
#define BEGIN_NS 500000ull /* between two that come for the first time: they are not in step */
#define SOURCES 200u /* source addresses: closed connections keep their port for a minute */
#define EVENTS 256
#define HELLO_BYTES_MAX 768u
#define WELCOME_BYTES_MIN 8u /* a header: what more there is tells a client nothing here */

struct impatient_client {
	int fd; /* -1: not connected */
	bool is_ready; /* on the stack */
	bool is_greeted, has_read;
	bool is_said; /* the ClientHello is on its way */
	uint16_t hello_bytes; /* 0: none made */
	uint32_t have; /* bytes of WELCOME */
	uint64_t begin_ns;
	SSL *ssl; /* between two memory BIOs */
	uint8_t hello[HELLO_BYTES_MAX];
};

enum step {
	STEP_WAIT,
	STEP_DONE,
	STEP_LOST,
};

/* ---- one client -------------------------------------------------------------------------- */

static void client_leave(struct impatient_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	if (!client->has_read)
		return; /* what it has said it may say again */
	SSL_free(client->ssl);
	client->ssl = NULL;
	client->hello_bytes = 0;
}

/* A new ClientHello, kept. */
static bool hello_make(const struct impatient *crowd, struct impatient_client *client)
{
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	SSL *ssl = SSL_new(crowd->context);
	int bytes = 0;

	if (in == NULL || out == NULL || ssl == NULL) {
		BIO_free(in);
		BIO_free(out);
		SSL_free(ssl);
		return false;
	}
	SSL_set_bio(ssl, in, out); /* owns both now */
	if (SSL_set_tlsext_host_name(ssl, ATTACK_SNI) == 1 && SSL_connect(ssl) <= 0)
		bytes = BIO_read(out, client->hello, (int)sizeof(client->hello));
	ERR_clear_error();
	if (bytes <= 0 || BIO_pending(out) > 0) {
		SSL_free(ssl);
		return false;
	}
	client->ssl = ssl;
	client->hello_bytes = (uint16_t)bytes;
	return true;
}

static int client_socket_make(const struct impatient *crowd, uint32_t number)
{
	const struct sockaddr_in source = {.sin_family = AF_INET,
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK + 1 + number % SOURCES)}};
	const struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = crowd->to.sin6_port,
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0 ||
		bind(fd, (const struct sockaddr *)&source, sizeof(source)) < 0 ||
		(connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 &&
			errno != EINPROGRESS)) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

/* False: not yet connected, or lost; its event tells which. */
static bool hello_say(struct impatient_client *client)
{
	client->is_said = send(client->fd, client->hello, client->hello_bytes, MSG_NOSIGNAL) ==
		client->hello_bytes;
	return client->is_said;
}

static void client_begin(struct impatient *crowd, struct impatient_client *client)
{
	uint32_t number = (uint32_t)(client - crowd->clients);
	struct epoll_event wanted = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = number};
	int error = 0;

	atomic_fetch_add(&crowd->tried, 1);
	client->begin_ns = attack_now_ns();
	client->is_greeted = client->has_read = client->is_said = false;
	client->have = 0;
	if (client->hello_bytes == 0 && !hello_make(crowd, client))
		error = ENOMEM;
	if (error == 0) {
		client->fd = client_socket_make(crowd, number);
		error = client->fd < 0 ? -client->fd : 0;
	}
	if (error == 0) {
		if (!hello_say(client))
			wanted.events |= EPOLLOUT;
		if (epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, client->fd, &wanted) < 0)
			error = errno;
	}
	if (error != 0) {
		atomic_store(&crowd->error, error);
		client_leave(client);
	}
}

/* What TLS wants to say; the kernel has room for the little it is. */
static bool client_flush(struct impatient_client *client)
{
	BIO *out = SSL_get_wbio(client->ssl);
	char *data;
	long bytes = BIO_get_mem_data(out, &data);

	if (bytes > 0 && send(client->fd, data, (size_t)bytes, MSG_NOSIGNAL) != bytes)
		return false;
	return BIO_reset(out) == 1;
}

/* 1: there are new bytes; 0: none; -1: the stream has ended, or TLS has no memory. */
static int client_hear(struct impatient_client *client)
{
	uint8_t input[16384];
	ssize_t bytes = recv(client->fd, input, sizeof(input), 0);

	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (bytes <= 0)
		return -1;
	client->has_read = true;
	return BIO_write(SSL_get_rbio(client->ssl), input, (int)bytes) == bytes ? 1 : -1;
}

static enum step step_of(const struct impatient_client *client, int status)
{
	int error = SSL_get_error(client->ssl, status);

	ERR_clear_error();
	return error == SSL_ERROR_WANT_READ ? STEP_WAIT : STEP_LOST;
}

static bool client_greet_now(struct impatient_client *client)
{
	uint8_t message[2 * CLIENT_MESSAGE_BYTES_MAX];
	size_t bytes = client_auth_info(message, ATTACK_GROUP, "storm"), written = 0;

	bytes += client_connect_message(message + bytes, 4);
	client->is_greeted = SSL_write_ex(client->ssl, message, bytes, &written) == 1;
	return client->is_greeted && client_flush(client);
}

/* As far as it goes: ClientHello, TLS and greeting in one flight, WELCOME. */
static enum step client_step(struct impatient_client *client)
{
	uint8_t answer[1024];
	size_t moved = 0;
	int status;

	if (!client->is_said && !hello_say(client) && errno != EAGAIN && errno != ENOTCONN)
		return STEP_LOST;
	status = client_hear(client);
	if (status <= 0)
		return status < 0 ? STEP_LOST : STEP_WAIT;
	if (!SSL_is_init_finished(client->ssl)) {
		status = SSL_connect(client->ssl);
		if (status != 1)
			return step_of(client, status);
	}
	if (!client->is_greeted && !client_greet_now(client))
		return STEP_LOST;
	while (client->have < WELCOME_BYTES_MIN) {
		status = SSL_read_ex(client->ssl, answer, sizeof(answer), &moved);
		if (status != 1)
			return step_of(client, status);
		client->have += (uint32_t)moved;
	}
	return STEP_DONE;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void crowd_step(struct impatient *crowd, struct impatient_client *client)
{
	enum step step;

	if (client->fd < 0)
		return; /* the event of a socket that is gone */
	if (!client->has_read && attack_now_ns() > client->begin_ns + HOPELESS_NS)
		return;
	step = client_step(client);
	if (step == STEP_WAIT)
		return;
	atomic_fetch_add(step == STEP_DONE ? &crowd->done : &crowd->turned_away, 1);
	client_leave(client);
	client_begin(crowd, client);
}

/* Who is half way goes on at once; the others wait on the stack. */
static void crowd_collect(struct impatient *crowd, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(crowd->epoll, events, EVENTS, timeout_ms);

	for (int i = 0; i < count; i++) {
		struct impatient_client *client = &crowd->clients[events[i].data.u32];

		if (client->has_read) {
			crowd_step(crowd, client);
		} else if (!client->is_ready) {
			client->is_ready = true;
			crowd->ready[crowd->ready_count++] = events[i].data.u32;
		}
	}
}

static void crowd_take(struct impatient *crowd)
{
	struct impatient_client *client = &crowd->clients[crowd->ready[--crowd->ready_count]];

	client->is_ready = false;
	crowd_step(crowd, client);
}

/* Who has waited for a second gives up and is back at once. */
static void crowd_look(struct impatient *crowd)
{
	uint64_t now_ns = attack_now_ns();
	uint32_t begun = 0;

	for (uint32_t i = 0; i < crowd->count && begun < LOOK_MAX; i++) {
		struct impatient_client *client = &crowd->clients[crowd->look_at];

		crowd->look_at = (crowd->look_at + 1) % crowd->count;
		if (now_ns < client->begin_ns + (client->fd >= 0 ? TIMEOUT_NS : 0))
			continue;
		begun++;
		if (client->fd >= 0) {
			atomic_fetch_add(&crowd->given_up, 1);
			atomic_fetch_add(&crowd->late, client->has_read);
		}
		client_leave(client);
		client_begin(crowd, client);
	}
}

static void *crowd_main(void *argument)
{
	struct impatient *crowd = argument;
	uint64_t look_ns = 0;

	/* Refused, they only disturb the hub more. */
	if (crowd->is_humble)
		(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19);
	while (!atomic_load(&crowd->is_ending)) {
		crowd_collect(crowd, crowd->ready_count > 0 ? 0 : 5);
		if (crowd->ready_count > 0)
			crowd_take(crowd);
		if (attack_now_ns() >= look_ns) {
			crowd_look(crowd);
			look_ns = attack_now_ns() + LOOK_NS;
		}
	}
	for (uint32_t i = 0; i < crowd->count; i++) {
		client_leave(&crowd->clients[i]);
		SSL_free(crowd->clients[i].ssl); /* of one that may have said its hello again */
	}
	return NULL;
}

/* An ordinary thread, whatever its maker is. */
static bool thread_start(struct impatient *crowd)
{
	const struct sched_param ordinary = {.sched_priority = 0};
	pthread_attr_t attributes;
	bool is_started;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	is_started = pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED) == 0 &&
		pthread_attr_setschedpolicy(&attributes, SCHED_OTHER) == 0 &&
		pthread_attr_setschedparam(&attributes, &ordinary) == 0 &&
		pthread_create(&crowd->thread, &attributes, crowd_main, crowd) == 0;
	pthread_attr_destroy(&attributes);
	return is_started;
}

bool impatient_start(struct impatient *crowd, struct attack_run *run, const ph_address *to,
	SSL_CTX *context, uint32_t count, bool is_humble)
{
	memset(crowd, 0, sizeof(*crowd));
	crowd->run = run;
	crowd->to = *to;
	crowd->context = context;
	crowd->count = count;
	crowd->is_humble = is_humble;
	crowd->clients = calloc(count, sizeof(*crowd->clients));
	crowd->ready = calloc(count, sizeof(*crowd->ready));
	crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; crowd->clients != NULL && i < count; i++) {
		crowd->clients[i].fd = -1;
		crowd->clients[i].begin_ns = attack_now_ns() + i * BEGIN_NS; /* by a look */
	}
	if (crowd->clients != NULL && crowd->ready != NULL && crowd->epoll >= 0 &&
		thread_start(crowd))
		return true;
	attack_fault(run, "a storm cannot be started");
	free(crowd->clients);
	free(crowd->ready);
	if (crowd->epoll >= 0)
		close(crowd->epoll);
	return false;
}

void impatient_stop(struct impatient *crowd)
{
	atomic_store(&crowd->is_ending, true);
	pthread_join(crowd->thread, NULL);
	close(crowd->epoll);
	free(crowd->clients);
	free(crowd->ready);
	if (atomic_load(&crowd->error) != 0)
		attack_fault(
			crowd->run, "a client's socket: %s", strerror(atomic_load(&crowd->error)));
}

uint64_t impatient_cpu_ns(const struct impatient *crowd)
{
	struct timespec used;
	clockid_t clock;

	if (pthread_getcpuclockid(crowd->thread, &clock) != 0 || clock_gettime(clock, &used) < 0)
		return 0;
	return (uint64_t)used.tv_sec * 1000000000ull + (uint64_t)used.tv_nsec;
}
