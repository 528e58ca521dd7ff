/*
 * The simulated network and its sockets, as the simulated kernels (ring_sim.c) see them. A stream is two
 * pipes; what is written into one travels in segments of the seed's choosing, is delayed, held up by
 * partitions, cut by resets. Sockets stay until the end of the run, so that the rules can ask them.
 */
#ifndef PEERHUB_TESTS_SIM_NET_H
#define PEERHUB_TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_DESCRIPTOR_FIRST 1000 /* of the simulated process: told apart from real ones */

enum net_state {
	NET_NEW,
	NET_CONNECTING,
	NET_CONNECTED,
	NET_DEAD, /* reset, by either side or in between, or its connect failed */
	NET_LISTENING,
	NET_NAME, /* an abstract Unix name */
};

struct net_pipe {
	uint8_t *data;
	size_t read, arrived, written, capacity; /* positions in data: read <= arrived <= written */
	size_t purged; /* by a reset, before they arrived */
	uint64_t arrived_ever, written_ever;
	bool shut; /* nothing more will be written */
	bool end_arrived;
};

struct net_socket {
	uint32_t number;
	enum net_state state;
	uint32_t references; /* descriptors, places in tables, operations in flight */
	bool closed; /* the last reference is gone */
	bool lost; /* nothing gets through any more, in either direction */
	bool troubled; /* a fault of the network has hit this connection */
	bool refused_disconnect; /* its reset was refused: it may end with a FIN instead */
	bool reset_coming; /* to this socket */
	int error; /* negative errno that the next call reports, once */
	struct net_socket *peer;
	struct net_pipe out; /* to the peer */
	uint64_t next_ns; /* when something may happen to it next */
	uint16_t port; /* listening, name; connecting: where to; network order */
	bool shared; /* SO_REUSEPORT */
	struct net_socket *backlog[8];
	uint32_t backlog_count, backlog_max;
	/* whose it is, for the rules: noted at its operations */
	const void *ring;
	uint64_t owner; /* slot:24 | generation:32 of user_data, 0 none */
};

extern uint64_t net_sockets_closed; /* so far */

struct net_socket *net_socket_create(void); /* one reference */
void net_socket_get(struct net_socket *socket);
void net_socket_put(struct net_socket *socket);

int net_descriptor_take(struct net_socket *socket); /* or -EMFILE; takes over a reference */
struct net_socket *net_descriptor(int descriptor); /* borrowed; a breach when there is none */
int net_descriptor_close(int descriptor);

void net_connect(struct net_socket *socket, uint16_t port);
int net_connect_result(const struct net_socket *socket); /* 1: not yet; 0; negative errno */
void net_connect_fail(struct net_socket *socket, int error);
struct net_socket *net_accept(struct net_socket *listener); /* NULL: none waits; one reference */
bool net_has_waiting(const struct net_socket *listener);

bool net_is_readable(const struct net_socket *socket); /* bytes, the end, or an error */
size_t net_available(const struct net_socket *socket);
const uint8_t *net_peek(const struct net_socket *socket);
void net_take(struct net_socket *socket, size_t bytes);
int net_read_end(struct net_socket *socket); /* no bytes: 0, or a negative errno */
int net_write_state(struct net_socket *socket); /* 0, or a negative errno */
size_t net_space(const struct net_socket *socket);
void net_write(struct net_socket *socket, const uint8_t *data, size_t bytes);
void net_shutdown(struct net_socket *socket);
void net_reset(struct net_socket *socket); /* our own disconnect */
size_t net_unsent(const struct net_socket *socket);

/* Of that connection of that ring, NULL when it never had one. */
struct net_socket *net_find_owned(const void *ring, uint64_t owner);

#endif
