/*
 * What every comparison server of this folder shares: the command line, the listening socket, the
 * ready line, signals, its own CPU time, and TLS contexts that are alike. A peer is one thread that
 * echoes; what differs between peers is only how it waits, reads and writes.
 *
 * SIGTERM and SIGINT end a peer with exit code 0. The signal of --close-all-on closes every
 * connection; the peer then prints `closed N cpu_us X`, X being its own CPU time from the first
 * close to the last one.
 */
#ifndef PEERHUB_BENCH_PEER_H
#define PEERHUB_BENCH_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEER_EXIT_OK 0
#define PEER_EXIT_FAILURE 1 /* it could not start or run */
#define PEER_EXIT_USAGE 2 /* the command line */

#define PEER_DESCRIPTORS_MAX (1u << 20) /* a descriptor above it is refused */
#define PEER_BACKLOG 4096
#define PEER_ACCEPTS_MAX 64 /* a turn takes so many new connections, then serves the others */

struct peer_options {
	const char *name; /* of the program, for messages */
	uint16_t port; /* 0: any free one */
	bool tls;
	const char *pki; /* directory with ca.pem, server.pem, server.key; given with tls */
	bool tickets; /* one session ticket a handshake, so that clients can resume */
	bool message; /* --framing message: the product's own messages, else raw bytes */
	int close_signal; /* SIGUSR1, or 0: no mass close */
	bool close_abort; /* --close-how abort: reset instead of FIN; plain only */
};

/* What a peer can do; asking for another thing is a usage error. */
struct peer_abilities {
	bool raw, message, tls, close_all;
};

/* Returns -1 when the peer shall run, else its exit code: the message is written. */
int peer_options_parse(struct peer_options *options, const char *name,
	const struct peer_abilities *abilities, int argc, char **argv);

void peer_descriptors_raise(void); /* the limit of open files, to its hard one */

/*
 * A listening socket on 127.0.0.1, non-blocking, with TCP_NODELAY, which accepted sockets inherit.
 * Raises the limit of open files first. The port is written back into the options. -1: the message
 * is written.
 */
int peer_listen(struct peer_options *options);

/* Block the signals and return a signalfd that hears them, or -1. peer_signal_next reads one number
 * from it, 0 when there is none. */
int peer_signals(const struct peer_options *options);
int peer_signal_next(int signals);

/* The ready line, flushed. 0 or -1. */
int peer_ready(const struct peer_options *options);

/* Set SO_LINGER so that close(2) sends a reset. */
void peer_linger_off(int fd);

uint64_t peer_cpu_ns(void); /* of this process, user and system */
void peer_closed_print(uint64_t count, uint64_t cpu_ns);

/* Write "peer-NAME: what: detail" and return -1. */
int peer_failure(const struct peer_options *options, const char *what, const char *detail);

/* TLS 1.3 for a server: certificate and key out of the PKI directory, the client must show one of
 * its CA's. No tickets unless asked for, no session cache, record buffers given back. NULL: the message is written. */
SSL_CTX *peer_tls_context(const struct peer_options *options);

#ifdef __cplusplus
}
#endif

#endif
