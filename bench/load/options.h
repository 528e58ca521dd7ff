/* The command line of peerhub-load: parsed and checked, nothing else. */
#ifndef PEERHUB_LOAD_OPTIONS_H
#define PEERHUB_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOAD_CONNECTIONS_MAX 1000000u
#define LOAD_SIZE_MAX 60000u /* one operation stays within one period of the pattern */
#define LOAD_IN_FLIGHT_MAX 65536u

enum load_mode {
	MODE_ECHO, /* every connection sends and gets back */
	MODE_CONNECT, /* an operation is connect, one echo, close */
	MODE_HANDSHAKE, /* the same with TLS and one byte */
	MODE_IDLE, /* open, hold, read the server's memory */
	MODE_RELAY, /* one sends, others receive */
};

enum load_framing {
	FRAMING_RAW,
	FRAMING_MESSAGE, /* the peer protocol */
	FRAMING_NNG, /* request of nng's SP over TCP */
	FRAMING_ZMQ, /* dealer of ZMTP 3.0; with --tls CURVE */
	FRAMING_NATS, /* publish and subscribe of nats-server */
};

struct load_options {
	enum load_mode mode;
	enum load_framing framing;
	uint16_t port;
	uint32_t connections;
	uint32_t size; /* payload bytes of an operation */
	uint32_t in_flight;
	uint32_t fan; /* relay: receivers of one sender */
	double seconds, warmup_seconds;
	double rate; /* operations a second in total, open loop; 0: closed loop */
	bool tls;
	bool resume; /* handshakes with the ticket of the connection's last one */
	int settle_core; /* the only core once all are open; -1: as it was started */
	const char *pki; /* directory with ca.pem, client.pem, client.key */
	uint32_t source_first, source_count; /* addresses to connect from, host order; 0: any */
	pid_t server_pid; /* 0: nobody is measured */
};

#define LOAD_EXIT_OK 0
#define LOAD_EXIT_FAILURE 1 /* it could not run, or something came back wrong */
#define LOAD_EXIT_USAGE 2

/* Returns -1 when the load shall run, else the exit code: the message (or --help) is written. */
int load_options_parse(struct load_options *options, int argc, char **argv);

const char *load_mode_name(enum load_mode mode);
const char *load_framing_name(enum load_framing framing);

#endif
