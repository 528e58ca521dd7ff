/*
 * peerhub-echo: the engine as an echo server, for outside load generators and as the smallest
 * honest client of the native API.
 *
 * The main thread starts one hub with one listener and then only waits for signals; all work is in
 * the callbacks, on the shards. What is received goes straight back: when a peer does not read, its
 * send budget fills, ph_send says -EAGAIN, on_data hands the very same bytes back to the engine,
 * and reading goes on at on_writable. So memory is bounded and no byte is lost or doubled.
 */
#include "options.h"
#include "trust.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* All our connections carry this tag; there is one group of them. */
#define ECHO_TAG 1u

struct echo {
	struct trust *trust; /* NULL without TLS */
	struct ph_hub *hub; /* set after start, used by the main thread only */
};

/* ---- callbacks, on the shards ---------------------------------------------------------- */

/*
 * The peer protocol wants names. We are the identity of our certificate in whatever group the client
 * asks for, `any.GROUP.p2p` or a plain name: an echo server belongs to nobody.
 */
static void group_from_sni(const char *sni, char *group)
{
	const char *dot = strchr(sni, '.');
	const char *end = dot != NULL ? strchr(dot + 1, '.') : NULL;

	if (end != NULL && strcmp(end, ".p2p") == 0)
		snprintf(group, PH_NAME_BYTES_MAX, "%.*s", (int)(end - dot - 1), dot + 1);
	else
		snprintf(group, PH_NAME_BYTES_MAX, "%s", sni[0] != '\0' ? sni : "echo");
}

static int echo_on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	const struct echo *echo = hub_user;

	group_from_sni(sni, answer->group);
	snprintf(answer->identity, sizeof(answer->identity), "%s", trust_identity(echo->trust));
	answer->credentials = ph_credentials_get(trust_credentials(echo->trust));
	return 0;
}

static int echo_on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	const struct echo *echo = hub_user;

	(void)id;
	(void)expected;
	verdict->tag = ECHO_TAG;
	if (echo->trust == NULL)
		return 0; /* --tls was not asked for: everybody is welcome */
	if (chain->resumed)
		return 0; /* the verdict is that of the last visit; nobody is ever taken back here */
	group_from_sni(sni != NULL ? sni : "", verdict->group);
	return trust_judge(echo->trust, chain, accepted, verdict->identity, verdict->refusal);
}

static int echo_on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	const struct ph_part part = {.data = data, .bytes = bytes};
	int status;

	(void)hub_user;
	(void)user;
	status = ph_send(id, ECHO_TAG, type, &part, 1);
	/* Full, or no memory for the copy: the engine keeps the bytes and offers them again. */
	if (status == -EAGAIN || status == -ENOMEM)
		return -EAGAIN;
	return 0; /* -ENOENT: it is closing, nobody is left to answer */
}

static void echo_on_writable(void *hub_user, uint64_t id, void *user)
{
	int status;

	(void)hub_user;
	(void)user;
	status = ph_resume(id, ECHO_TAG);
	(void)status; /* -ENOENT: it closed meanwhile */
}

static const struct ph_callbacks echo_callbacks = {
	.on_hello = echo_on_hello,
	.on_verify = echo_on_verify,
	.on_data = echo_on_data,
	.on_writable = echo_on_writable,
};

/* ---- start ----------------------------------------------------------------------------- */

static int failure(const char *what, const char *detail)
{
	fprintf(stderr, "peerhub-echo: %s: %s\n", what, detail);
	return -1;
}

static int trust_start(struct echo *echo, const struct echo_options *options)
{
	char why[TRUST_WHY_BYTES];

	if (!options->tls)
		return 0;
	if (trust_create(options->cert_path, options->key_path, options->ca_path, &echo->trust,
		    why) < 0) {
		fprintf(stderr, "peerhub-echo: %s\n", why);
		return -1;
	}
	return 0;
}

static int hub_start(struct echo *echo, const struct echo_options *options)
{
	uint32_t threads = options->thread_count;
	struct ph_options hub_options = {
		.size = sizeof(hub_options),
		.shard_count = threads,
		/* Connections are dealt out by the kernel's hash, so give each shard some room. */
		.connections_per_shard = options->connections == 0
			? 0
			: options->connections / threads + options->connections / threads / 8 + 64,
		.flags = PH_HUB_TLS_FAST_DECODE | (options->resume ? PH_HUB_RESUME : 0),
		.user = echo,
	};
	char why[PH_WHY_BYTES] = "";
	int status;

	status = ph_hub_start(&hub_options, &echo_callbacks, &echo->hub, why);
	if (status < 0)
		return failure("cannot start the engine", why[0] != '\0' ? why : strerror(-status));
	return 0;
}

static int listen_start(
	struct echo *echo, const struct echo_options *options, const ph_address *address)
{
	struct ph_listen_options listen_options = {
		.address = *address,
		.framing = options->framing,
		.tls = options->tls ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.tag = ECHO_TAG,
	};
	char host[INET6_ADDRSTRLEN] = "";
	ph_address bound;
	int status;

	status = ph_listen(echo->hub, &listen_options, &bound);
	if (status < 0)
		return status;
	if (IN6_IS_ADDR_V4MAPPED(&bound.sin6_addr))
		inet_ntop(AF_INET, &bound.sin6_addr.s6_addr[12], host, sizeof(host));
	else
		inet_ntop(AF_INET6, &bound.sin6_addr, host, sizeof(host));
	printf("ready %s %u\n", host, ntohs(bound.sin6_port));
	return fflush(stdout) == 0 ? 0 : -errno;
}

static int listen_anywhere(struct echo *echo, const struct echo_options *options)
{
	ph_address address = options->address;
	char text[PH_ADDRESS_TEXT_BYTES];
	int status;

	status = listen_start(echo, options, &address);
	if (status == -EAFNOSUPPORT || status == -EADDRNOTAVAIL) {
		/* A machine without IPv6 has no `::`; every IPv4 address is what is left. */
		if (!options->address_given) {
			memset(&address.sin6_addr, 0, sizeof(address.sin6_addr));
			address.sin6_addr.s6_addr[10] = 0xff;
			address.sin6_addr.s6_addr[11] = 0xff;
			status = listen_start(echo, options, &address);
		}
	}
	if (status < 0) {
		fprintf(stderr, "peerhub-echo: cannot listen on %s: %s\n",
			ph_address_text(&address, text), strerror(-status));
		return -1;
	}
	return 0;
}

/* ---- run ------------------------------------------------------------------------------- */

/* Blocked before the shards start, so that they inherit it and only sigwait sees the signals. */
static int signals_block(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	return -pthread_sigmask(SIG_BLOCK, set, NULL);
}

/* Direct descriptors do not count, but where they are missing each connection is one. */
static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		fprintf(stderr, "peerhub-echo: cannot raise the limit of open files: %s\n",
			strerror(errno));
}

static void close_all(struct echo *echo, enum ph_how how)
{
	const struct ph_filter everything = {.has_tag = 0};
	int64_t count = ph_close_where(echo->hub, &everything, how, 0, 0, 0);

	if (count < 0)
		fprintf(stderr, "peerhub-echo: cannot close the connections: %s\n",
			strerror((int)-count));
}

static void signals_serve(struct echo *echo, const sigset_t *set)
{
	int number;

	for (;;) {
		if (sigwait(set, &number) != 0)
			continue;
		if (number == SIGUSR1)
			close_all(echo, PH_GRACEFUL);
		else if (number == SIGUSR2)
			close_all(echo, PH_ABORT);
		else
			return;
	}
}

int main(int argc, char **argv)
{
	struct echo_options options;
	struct echo echo = {.hub = NULL};
	int result = ECHO_EXIT_FAILURE;
	sigset_t signals;
	int status;

	status = echo_options_parse(&options, argc, argv);
	if (status >= 0)
		return status;
	status = signals_block(&signals);
	if (status < 0) {
		failure("cannot block signals", strerror(-status));
		return ECHO_EXIT_FAILURE;
	}
	descriptors_raise();
	if (trust_start(&echo, &options) < 0)
		return ECHO_EXIT_FAILURE;
	if (hub_start(&echo, &options) < 0)
		goto undo_trust;
	if (listen_anywhere(&echo, &options) == 0) {
		signals_serve(&echo, &signals);
		result = ECHO_EXIT_OK;
	}
	status = ph_hub_stop(echo.hub, PH_GRACEFUL);
	if (status < 0) {
		failure("cannot stop the engine", strerror(-status));
		result = ECHO_EXIT_FAILURE;
	}
undo_trust:
	trust_destroy(echo.trust);
	return result;
}
