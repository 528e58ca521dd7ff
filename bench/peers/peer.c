/* What every comparison server shares; see peer.h. */
#include "bench/peers/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

/* ---- the command line ------------------------------------------------------------------ */

enum {
	OPT_PORT = 256,
	OPT_THREADS,
	OPT_TLS,
	OPT_PKI,
	OPT_TICKETS,
	OPT_FRAMING,
	OPT_CLOSE_ALL_ON,
	OPT_CLOSE_HOW,
	OPT_HELP
};

static const struct option long_options[] = {
	{"port", required_argument, NULL, OPT_PORT},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"tls", no_argument, NULL, OPT_TLS},
	{"pki", required_argument, NULL, OPT_PKI},
	{"tickets", no_argument, NULL, OPT_TICKETS},
	{"framing", required_argument, NULL, OPT_FRAMING},
	{"close-all-on", required_argument, NULL, OPT_CLOSE_ALL_ON},
	{"close-how", required_argument, NULL, OPT_CLOSE_HOW},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static int usage_print(const char *name)
{
	printf("usage: peer-%s --port P --threads 1 [options]\n"
	       "\n"
	       "An echo server to compare peerhub-echo with.\n"
	       "\n"
	       "  --port P             TCP port on 127.0.0.1, 0 for any free one\n"
	       "  --threads 1          one thread: the only choice\n"
	       "  --framing KIND       raw (bytes come back) or message (messages come back)\n"
	       "  --tls --pki DIR      with encryption; DIR as peer-pki makes it\n"
	       "  --tickets            give one session ticket a handshake: OpenSSL's resumption\n"
	       "  --close-all-on SIGUSR1   close all connections at this signal\n"
	       "  --close-how HOW      graceful (default) or abort (plain only)\n"
	       "\n"
	       "Writes `ready PORT` when it listens. SIGTERM ends it with exit code 0.\n",
		name);
	return fflush(stdout) == 0 ? PEER_EXIT_OK : PEER_EXIT_FAILURE;
}

static int usage_error(const char *name, const char *what, const char *value)
{
	fprintf(stderr, "peer-%s: %s%s%s (--help shows the options)\n", name, what,
		value != NULL ? ": " : "", value != NULL ? value : "");
	return PEER_EXIT_USAGE;
}

static int port_parse(const char *text, uint16_t *port)
{
	unsigned long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || value > 65535)
		return -EINVAL;
	*port = (uint16_t)value;
	return 0;
}

/* What the options say together. */
static int options_check(
	const struct peer_options *options, const struct peer_abilities *abilities, bool port_given)
{
	const char *name = options->name;

	if (!port_given)
		return usage_error(name, "--port is missing", NULL);
	if (options->message ? !abilities->message : !abilities->raw)
		return usage_error(
			name, "it cannot speak this framing", options->message ? "message" : "raw");
	if (options->tls && !abilities->tls)
		return usage_error(name, "it has no TLS here", NULL);
	if (options->tls != (options->pki != NULL))
		return usage_error(name, "--tls and --pki go together", NULL);
	if (options->tickets && !options->tls)
		return usage_error(name, "--tickets is for --tls", NULL);
	if (options->close_signal != 0 && !abilities->close_all)
		return usage_error(name, "it has no mass close", NULL);
	if (options->close_abort && options->tls)
		return usage_error(name, "--close-how abort is for plain connections", NULL);
	return -1;
}

int peer_options_parse(struct peer_options *options, const char *name,
	const struct peer_abilities *abilities, int argc, char **argv)
{
	bool port_given = false;
	int opt;

	memset(options, 0, sizeof(*options));
	options->name = name;
	options->message = !abilities->raw;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (opt) {
		case OPT_PORT:
			if (port_parse(optarg, &options->port) < 0)
				return usage_error(name, "--port takes 0 to 65535", optarg);
			port_given = true;
			break;
		case OPT_THREADS:
			if (strcmp(optarg, "1") != 0)
				return usage_error(name, "it runs with --threads 1 only", optarg);
			break;
		case OPT_TLS:
			options->tls = true;
			break;
		case OPT_PKI:
			options->pki = optarg;
			break;
		case OPT_TICKETS:
			options->tickets = true;
			break;
		case OPT_FRAMING:
			options->message = strcmp(optarg, "message") == 0;
			if (!options->message && strcmp(optarg, "raw") != 0)
				return usage_error(name, "--framing takes raw or message", optarg);
			break;
		case OPT_CLOSE_ALL_ON:
			if (strcmp(optarg, "SIGUSR1") != 0)
				return usage_error(name, "--close-all-on takes SIGUSR1", optarg);
			options->close_signal = SIGUSR1;
			break;
		case OPT_CLOSE_HOW:
			options->close_abort = strcmp(optarg, "abort") == 0;
			if (!options->close_abort && strcmp(optarg, "graceful") != 0)
				return usage_error(
					name, "--close-how takes graceful or abort", optarg);
			break;
		case OPT_HELP:
			return usage_print(name);
		default:
			return PEER_EXIT_USAGE;
		}
	}
	if (optind < argc)
		return usage_error(name, "it takes no arguments", argv[optind]);
	return options_check(options, abilities, port_given);
}

int peer_failure(const struct peer_options *options, const char *what, const char *detail)
{
	fprintf(stderr, "peer-%s: %s: %s\n", options->name, what, detail);
	return -1;
}

/* ---- the socket ------------------------------------------------------------------------ */

void peer_descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		fprintf(stderr, "cannot raise the limit of open files: %s\n", strerror(errno));
}

int peer_listen(struct peer_options *options)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(options->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	const int on = 1;
	int fd;

	peer_descriptors_raise();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return peer_failure(options, "socket", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(fd, PEER_BACKLOG) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &bytes) < 0) {
		peer_failure(options, "cannot listen", strerror(errno));
		close(fd);
		return -1;
	}
	options->port = ntohs(address.sin_port);
	return fd;
}

void peer_linger_off(int fd)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		fprintf(stderr, "SO_LINGER: %s\n", strerror(errno));
}

/* ---- signals and words ----------------------------------------------------------------- */

int peer_signals(const struct peer_options *options)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (options->close_signal != 0)
		sigaddset(&set, options->close_signal);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return peer_failure(options, "signals", strerror(errno));
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return peer_failure(options, "signalfd", strerror(errno));
	return fd;
}

int peer_signal_next(int signals)
{
	struct signalfd_siginfo info;

	return read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo
									   : 0;
}

int peer_ready(const struct peer_options *options)
{
	printf("ready %u\n", options->port);
	return fflush(stdout) == 0 ? 0 : peer_failure(options, "stdout", strerror(errno));
}

uint64_t peer_cpu_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) < 0)
		return 0;
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void peer_closed_print(uint64_t count, uint64_t cpu_ns)
{
	printf("closed %llu cpu_us %llu\n", (unsigned long long)count,
		(unsigned long long)(cpu_ns / 1000));
	if (fflush(stdout) != 0)
		fprintf(stderr, "stdout: %s\n", strerror(errno));
}

/* ---- TLS ------------------------------------------------------------------------------- */

static bool tls_files_use(SSL_CTX *context, const char *pki)
{
	char cert[PATH_MAX], key[PATH_MAX], ca[PATH_MAX];
	STACK_OF(X509_NAME) * names;

	if (snprintf(cert, sizeof(cert), "%s/server.pem", pki) >= (int)sizeof(cert) ||
		snprintf(key, sizeof(key), "%s/server.key", pki) >= (int)sizeof(key) ||
		snprintf(ca, sizeof(ca), "%s/ca.pem", pki) >= (int)sizeof(ca))
		return false;
	if (SSL_CTX_use_certificate_chain_file(context, cert) != 1 ||
		SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_check_private_key(context) != 1 ||
		SSL_CTX_load_verify_file(context, ca) != 1)
		return false;
	names = SSL_load_client_CA_file(ca);
	if (names == NULL)
		return false;
	SSL_CTX_set_client_CA_list(context, names);
	return true;
}

SSL_CTX *peer_tls_context(const struct peer_options *options)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
		SSL_CTX_set1_groups_list(context, "X25519:P-256") != 1 ||
		SSL_CTX_set_num_tickets(context, options->tickets ? 1 : 0) != 1 ||
		SSL_CTX_set_session_id_context(context, (const unsigned char *)"peer", 4) != 1 ||
		!tls_files_use(context, options->pki)) {
		peer_failure(options, "cannot set up TLS",
			ERR_reason_error_string(ERR_peek_last_error()) != NULL
				? ERR_reason_error_string(ERR_peek_last_error())
				: "a path is too long");
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
	if (!options->tickets)
		SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(context,
		SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return context;
}
