/*
 * The beginnings of a connection: dial or accept, TLS, then the greeting: AUTH_INFO and CONNECT from the
 * opener together with its Finished, WELCOME or REFUSE in answer (three round trips from SYN to open).
 *
 * Trust: TLS proves that the peer holds its leaf's key; on_verify judges the chain; here AUTH_INFO is
 * compared with both: its source is the verified identity, its group the group of the server name, its
 * destination the identity of the server name or "any". Names are compared by authority (the part before
 * the first dot) where the server name carries no more.
 */
#include "engine/conn.h"

#include "engine/address.h"
#include "engine/admission.h"
#include "engine/check.h"
#include "engine/digest.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/resume.h"
#include "engine/shard.h"
#include "engine/wire.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

/* ---- setup: what ph_open was given ------------------------------------------------------- */

static bool name_copy(char *out, size_t out_bytes, const char *name)
{
	size_t bytes = name != NULL ? strlen(name) : 0;

	if (bytes >= out_bytes)
		return false;
	if (bytes > 0)
		memcpy(out, name, bytes);
	out[bytes] = '\0';
	return true;
}

/* None, or one of the same family as the address it dials. */
static bool local_address_fits(const struct ph_open_options *options)
{
	const ph_address *local = &options->local_address;

	if (local->sin6_family == 0)
		return true;
	return local->sin6_family == AF_INET6 &&
		IN6_IS_ADDR_V4MAPPED(&local->sin6_addr) ==
		IN6_IS_ADDR_V4MAPPED(&options->address.sin6_addr);
}

int conn_setup_create(const struct ph_open_options *options, struct conn_setup **out)
{
	bool message = options->framing == PH_FRAMING_MESSAGE;
	struct conn_setup *setup;

	if (options->address.sin6_family != AF_INET6 || options->address.sin6_port == 0)
		return -EINVAL;
	if (options->framing != PH_FRAMING_MESSAGE && options->framing != PH_FRAMING_RAW)
		return -EINVAL;
	if (options->tls != PH_TLS_MUTUAL && options->tls != PH_TLS_NONE)
		return -EINVAL;
	if (!local_address_fits(options))
		return -EINVAL;
	if (options->tls == PH_TLS_MUTUAL && options->credentials == NULL)
		return -EINVAL;
	if (message && options->kind != PH_KIND_DIRECT && options->kind != PH_KIND_NEIGHBOR)
		return -EINVAL;
	if (message &&
		(options->group == NULL || options->group[0] == '\0' || options->source == NULL ||
			options->source[0] == '\0'))
		return -EINVAL;
	if (options->address_count > PH_ADDRESSES_MAX ||
		(options->address_count > 0 && options->addresses == NULL))
		return -EINVAL;
	setup = memory_zalloc(sizeof(*setup));
	if (setup == NULL)
		return -ENOMEM;
	if (!name_copy(setup->sni, sizeof(setup->sni), options->sni) ||
		!name_copy(setup->group, sizeof(setup->group), options->group) ||
		!name_copy(setup->source, sizeof(setup->source), options->source) ||
		!name_copy(setup->expected, sizeof(setup->expected), options->expected) ||
		!name_copy(setup->friendly_name, sizeof(setup->friendly_name),
			options->friendly_name)) {
		memory_free(setup);
		return -EINVAL;
	}
	if (options->address_count > 0)
		memcpy(setup->addresses, options->addresses,
			options->address_count * sizeof(setup->addresses[0]));
	setup->address_count = options->address_count;
	setup->node_id = options->node_id;
	setup->address = options->address;
	setup->socket_address_bytes = address_to_socket(&options->address, &setup->socket_address);
	if (options->local_address.sin6_family != 0)
		setup->local_socket_bytes =
			address_to_socket(&options->local_address, &setup->local_socket_address);
	setup->kind = message ? options->kind : PH_KIND_RAW;
	setup->framing = options->framing;
	setup->tls = options->tls;
	setup->tag = options->tag;
	setup->user = options->user;
	if (options->credentials != NULL)
		setup->credentials = ph_credentials_get(options->credentials);
	*out = setup;
	return 0;
}

void conn_setup_destroy(struct conn_setup *setup)
{
	if (setup == NULL)
		return;
	ph_credentials_put(setup->credentials);
	resume_entry_destroy(setup->resume);
	resume_chain_put(setup->chain);
	memory_free(setup);
}

/* ---- dial ------------------------------------------------------------------------------- */

/* Its answer comes as that of OP_SOCKET, when there is a file. False: no submission entry. */
static bool conn_bind(struct conn *conn)
{
	static const int one = 1;
	const struct conn_setup *setup = conn->setup;
	struct ring *ring = conn->shard->ring;

	/* The port is then chosen by connect, among those that are free towards this peer, not towards all.
	 * Where it is refused there are fewer ports. */
	(void)ring_option(ring, conn->file, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one,
		op_data(OP_OPTION, conn->slot_index, conn->generation));
	if (!ring_bind(ring, conn->file, (const struct sockaddr *)&setup->local_socket_address,
		    setup->local_socket_bytes,
		    op_data(OP_SOCKET, conn->slot_index, conn->generation)))
		return false;
	conn->ops[OP_SOCKET]++;
	return true;
}

static void conn_on_bound(struct conn *conn, int32_t result)
{
	if (conn->state == CONN_CLOSING)
		return;
	if (result < 0) {
		conn_fail(conn, PH_REASON_TRANSPORT_CONNECT, result,
			"the local address cannot be used");
		return;
	}
	conn->setup->local_socket_bytes = 0;
	conn_dial(conn, 0);
}

/* Begins a dialled connection, or goes on where no submission entry was to be had. */
void conn_dial(struct conn *conn, uint64_t word)
{
	struct shard *shard = conn->shard;
	struct conn_setup *setup = conn->setup;

	if (conn->state == CONN_FREE) {
		conn->kind = (uint8_t)setup->kind;
		conn->framing = (uint8_t)setup->framing;
		conn->secure = setup->tls == PH_TLS_MUTUAL;
		conn->user = setup->user;
		conn->peer_address = setup->address;
		SHARD_COUNT(shard, dialled);
		conn_enter(conn, CONN_CONNECTING);
		timer_arm(&shard->timers, &conn->timer,
			shard->now_ns +
				(uint64_t)shard->hub->options.timeout_connect_ms * 1000000u);
		if (word & SLOT_CLOSE)
			return; /* closed before it began: no socket is made */
		if (atomic_load(&shard->hub->stopping)) {
			conn_fail(conn, PH_REASON_LOCAL_STOP, 0, NULL);
			return;
		}
		if (hub_tag_has_ended(shard->hub, setup->tag)) {
			conn_fail(conn, PH_REASON_LOCAL_GROUP_END, 0, NULL);
			return;
		}
	}
	if (conn->file == RING_FILE_NONE) {
		if (conn->ops[OP_SOCKET] > 0)
			return;
		if (!ring_socket(shard->ring, setup->socket_address.ss_family,
			    op_data(OP_SOCKET, conn->slot_index, conn->generation))) {
			shard_list_add(shard, LIST_WORK, conn);
			return;
		}
		conn->ops[OP_SOCKET]++;
		return;
	}
	if (conn->ops[OP_CONNECT] > 0 || conn->ops[OP_SOCKET] > 0)
		return;
	if (setup->local_socket_bytes > 0) {
		if (!conn_bind(conn))
			shard_list_add(shard, LIST_WORK, conn);
		return;
	}
	if (!ring_connect(shard->ring, conn->file, (const struct sockaddr *)&setup->socket_address,
		    setup->socket_address_bytes,
		    op_data(OP_CONNECT, conn->slot_index, conn->generation))) {
		shard_list_add(shard, LIST_WORK, conn);
		return;
	}
	conn->ops[OP_CONNECT]++;
}

static void conn_socket_options(struct conn *conn)
{
	static const int one = 1;
	const struct ph_options *options = &conn->shard->hub->options;
	struct ring *ring = conn->shard->ring;
	uint64_t data = op_data(OP_OPTION, conn->slot_index, conn->generation);

	/* A refused option makes a connection slower, not wrong. The values outlive the submission. */
	(void)ring_option(ring, conn->file, IPPROTO_TCP, TCP_NODELAY, &one, data);
	(void)ring_option(ring, conn->file, SOL_SOCKET, SO_KEEPALIVE, &one, data);
	(void)ring_option(ring, conn->file, SOL_SOCKET, SO_SNDBUF,
		(const int *)&options->socket_send_bytes, data);
	(void)ring_option(ring, conn->file, SOL_SOCKET, SO_RCVBUF,
		(const int *)&options->socket_receive_bytes, data);
	(void)ring_option(ring, conn->file, IPPROTO_TCP, TCP_USER_TIMEOUT,
		(const int *)&options->timeout_dead_ms, data);
}

void conn_on_socket(struct conn *conn, int32_t result)
{
	if (conn->file != RING_FILE_NONE) {
		conn_on_bound(conn, result);
		return;
	}
	if (result >= 0)
		conn->file = result;
	if (conn->state == CONN_CLOSING) {
		shard_list_add(conn->shard, LIST_CLOSE, conn);
		return;
	}
	if (result < 0) {
		conn_fail(conn, PH_REASON_TRANSPORT_CONNECT, result,
			result == -ENFILE || result == -EMFILE ? "no descriptor for a socket"
							       : "no socket");
		return;
	}
	conn_socket_options(conn);
	conn_dial(conn, 0);
}

static void conn_on_secured(struct conn *conn);

/* TCP stands: begin TLS, or the greeting without it. */
static void conn_secure_begin(struct conn *conn)
{
	struct shard *shard = conn->shard;
	int status;

	conn_enter(conn, CONN_HANDSHAKE);
	timer_arm(&shard->timers, &conn->timer,
		shard->now_ns + (uint64_t)shard->hub->options.timeout_handshake_ms * 1000000u);
	if (conn->accepted && conn->ops[OP_NAME] == 0 && !conn_admit(conn))
		return;
	conn_recv_arm(conn);
	if (!conn->secure) {
		/* Without a handshake the peer's address would come too late for on_open. */
		if (conn->ops[OP_NAME] == 0)
			conn_on_secured(conn);
		return;
	}
	if (conn->accepted)
		return; /* nothing is spent before the first byte */
	status = tls_open(shard->tls, TLS_CLIENT, conn->setup->credentials, conn->setup->sni, conn,
		&conn->tls);
	if (status < 0) {
		conn_fail(conn, status == -ENOMEM ? PH_REASON_LIMIT_MEMORY : PH_REASON_PROTOCOL_TLS,
			status, "TLS could not begin");
		return;
	}
	conn_resume_offer(conn);
	conn_handshake_later(conn);
}

void conn_on_connected(struct conn *conn, int32_t result)
{
	if (conn->state != CONN_CONNECTING)
		return;
	if (result < 0) {
		conn_fail(conn, PH_REASON_TRANSPORT_CONNECT, result, strerror(-result));
		return;
	}
	conn_secure_begin(conn);
}

/* ---- accept ----------------------------------------------------------------------------- */

static void conn_peer_name_begin(struct conn *conn, int family)
{
	struct shard *shard = conn->shard;

	conn->peer_name = memory_alloc(sizeof(*conn->peer_name));
	if (conn->peer_name == NULL)
		return;
	conn->peer_name->ss_family = (sa_family_t)family;
	if (ring_peer_name(shard->ring, conn->file, conn->peer_name,
		    op_data(OP_NAME, conn->slot_index, conn->generation))) {
		conn->ops[OP_NAME]++;
		return;
	}
	memory_free(conn->peer_name);
	conn->peer_name = NULL;
}

/* Its first bytes may have waited for this; or receive for an entry. */
static void conn_on_admitted(struct conn *conn)
{
	if (conn_has_input(conn) || conn->eof)
		conn_handshake_later(conn);
	else
		conn_input_drained(conn);
}

void conn_on_name(struct conn *conn)
{
	if (conn->peer_name == NULL)
		return;
	(void)address_from_socket(conn->peer_name, &conn->peer_address);
	memory_free(conn->peer_name);
	conn->peer_name = NULL;
	if (conn->state != CONN_HANDSHAKE || !conn_admit(conn))
		return;
	if (!conn->secure)
		conn_on_secured(conn);
	else if (limits_is_gate(conn->shard->hub->limits))
		conn_on_admitted(conn);
}

void conn_accept(struct conn *conn, const struct listener *listener, int32_t file)
{
	struct shard *shard = conn->shard;

	conn->accepted = true;
	conn->file = file;
	conn->framing = (uint8_t)listener->options.framing;
	conn->kind = PH_KIND_RAW; /* CONNECT tells better */
	conn->secure = listener->options.tls == PH_TLS_MUTUAL;
	conn->user = listener->options.user;
	conn->counted_handshake = true;
	shard->handshakes++;
	SHARD_COUNT(shard, accepted);
	conn_peer_name_begin(conn, listener->family);
	conn_secure_begin(conn);
}

/* ---- TLS -------------------------------------------------------------------------------- */

static int conn_setup_ensure(struct conn *conn)
{
	if (conn->setup == NULL)
		conn->setup = memory_zalloc(sizeof(*conn->setup));
	return conn->setup != NULL ? 0 : -ENOMEM;
}

static int conn_on_hello(void *context, const char *sni, struct ph_credentials **credentials)
{
	struct conn *conn = context;
	struct ph_hub *hub = conn->shard->hub;
	struct ph_hello_answer *answer;
	int status;

	if (hub->callbacks.on_hello == NULL || conn_setup_ensure(conn) < 0)
		return -EACCES;
	answer = memory_zalloc(sizeof(*answer));
	if (answer == NULL)
		return -ENOMEM;
	status = hub->callbacks.on_hello(hub->options.user, sni, answer);
	if (status < 0 || answer->credentials == NULL) {
		SHARD_COUNT(conn->shard, hello_refused);
		ph_credentials_put(answer->credentials);
		memory_free(answer);
		return status < 0 ? status : -EACCES;
	}
	(void)name_copy(conn->setup->sni, sizeof(conn->setup->sni), sni);
	(void)name_copy(conn->setup->group, sizeof(conn->setup->group), answer->group);
	(void)name_copy(conn->setup->source, sizeof(conn->setup->source), answer->identity);
	*credentials = answer->credentials;
	ph_credentials_put(conn->setup->credentials);
	conn->setup->credentials = ph_credentials_get(answer->credentials);
	memory_free(answer);
	return 0;
}

int conn_verify(struct conn *conn, const struct ph_chain *chain)
{
	struct ph_hub *hub = conn->shard->hub;
	struct conn_setup *setup = conn->setup;
	struct ph_verdict *verdict = &setup->verdict;
	const char *wanted = conn->accepted ? setup->source : setup->expected;
	const char *expected = wanted[0] != '\0' ? wanted : NULL;
	int status = -EACCES;

	conn_resume_begin(conn);
	if (hub->callbacks.on_verify != NULL)
		status = hub->callbacks.on_verify(hub->options.user, conn_id(conn), conn->accepted,
			setup->sni, expected, chain, verdict);
	else if (!conn->secure)
		status = 0;
	verdict->group[PH_NAME_BYTES_MAX - 1] = '\0';
	verdict->identity[PH_NAME_BYTES_MAX - 1] = '\0';
	verdict->refusal[PH_TEXT_BYTES_MAX - 1] = '\0';
	if (status == 0 && conn->accepted) {
		/* Stored before the ended tags are looked at: see hub.c. From here the connection is the
		 * user's, so on_closed names it even when the tag has ended meanwhile. */
		atomic_store_explicit(&conn_slot(conn)->tag, verdict->tag, memory_order_relaxed);
		conn->user = verdict->user;
		if (hub_tag_has_ended(hub, verdict->tag)) {
			snprintf(verdict->refusal, sizeof(verdict->refusal), "the group has ended");
			status = -ESHUTDOWN;
		}
	}
	if (status < 0) {
		SHARD_COUNT(conn->shard, verify_refused);
		return status;
	}
	setup->verified = true;
	return 0;
}

static int conn_on_verify(void *context, const struct ph_chain *chain)
{
	struct conn *conn = context;

	int status;

	if (conn_setup_ensure(conn) < 0)
		return -ENOMEM;
	status = conn_verify(conn, chain);
	if (status == 0)
		conn_resume_remember(conn, chain);
	return status;
}

const struct tls_events conn_tls_events = {
	.on_hello = conn_on_hello,
	.on_verify = conn_on_verify,
	.on_resume = conn_on_resume,
};

static void conn_handshake_failed(struct conn *conn, int status)
{
	char text[PH_TEXT_BYTES_MAX];
	int refused = tls_verify_refused(conn->tls);
	uint32_t reason = PH_REASON_PROTOCOL_TLS;

	SHARD_COUNT(conn->shard, handshakes_failed);
	if (status == TLS_NO_MEMORY) {
		conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, "no memory for the handshake");
		return;
	}
	tls_failure_text(conn->tls, text, sizeof(text));
	if (refused == TLS_REFUSED_HELLO) {
		reason = PH_REASON_PROTOCOL_HELLO;
	} else if (refused == TLS_REFUSED_VERIFY) {
		reason = PH_REASON_PROTOCOL_VERIFY;
		if (conn->setup != NULL && conn->setup->verdict.refusal[0] != '\0')
			memcpy(text, conn->setup->verdict.refusal, sizeof(text));
	}
	/* An alert of ours goes out, then the peer gets time to read it; who was sent one waits for nobody. */
	conn_leave(conn, reason, PH_SIDE_ENGINE, conn->wire.bytes > 0, text);
}

/*
 * A step when its turn comes. Those under way, of both roles, go in order; a stranger's first bytes wait
 * apart (shard_handshakes). Who said hello and has gone again is not kept waiting for it.
 */
void conn_handshake_later(struct conn *conn)
{
	if (!conn->accepted || !conn->secure || conn->tls != NULL) {
		shard_list_add(conn->shard, LIST_HANDSHAKE, conn);
	} else if (conn->eof) {
		conn_input_discard(conn);
		conn_work_later(conn);
	} else {
		shard_hello_add(conn->shard, conn);
	}
}

/* One step of the handshake with the input that is there. */
void conn_handshake(struct conn *conn)
{
	struct shard *shard = conn->shard;
	int status;

	if (conn->state != CONN_HANDSHAKE || !conn->secure || conn_awaits_name(conn))
		return;
	if (conn->tls == NULL) {
		/* Who said hello and has gone again is owed nothing: in a storm most have, by their turn. */
		if (conn->eof)
			conn_input_discard(conn);
		if (!conn_has_input(conn)) {
			if (conn->eof)
				conn_work_later(conn);
			else
				conn_input_drained(conn); /* where receive found no entry */
			return;
		}
		status = tls_open(shard->tls, TLS_SERVER, NULL, NULL, conn, &conn->tls);
		if (status < 0) {
			conn_fail(conn, PH_REASON_LIMIT_MEMORY, status, "TLS could not begin");
			return;
		}
	}
	do {
		status = tls_handshake_step(conn->tls, &conn->wire);
		if (conn->wire.bytes > 0)
			conn_flush_later(conn);
	} while (status == TLS_AGAIN && tls_input_left(conn->tls) == 0 && conn_input_feed(conn));
	if (status == TLS_AGAIN && tls_input_left(conn->tls) > 0) {
		conn_handshake_later(conn);
		return;
	}
	if (status == TLS_AGAIN) {
		if (conn->eof)
			conn_fail(conn, PH_REASON_TRANSPORT_HANDSHAKE_LOST, conn->receive_error,
				"the stream ended during the TLS handshake");
		else
			conn_input_drained(conn);
		return;
	}
	if (status < 0) {
		conn_handshake_failed(conn, status);
		return;
	}
	if (conn_setup_ensure(conn) < 0) {
		conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, NULL);
		return;
	}
	if (conn_resume_judge(conn) < 0) {
		SHARD_COUNT(shard, handshakes_failed);
		conn_leave(conn, PH_REASON_PROTOCOL_VERIFY, PH_SIDE_ENGINE, true,
			conn->setup->verdict.refusal);
		return;
	}
	SHARD_COUNT(shard, handshakes_done);
	conn_on_secured(conn);
}

/* ---- greeting --------------------------------------------------------------------------- */

static void conn_open_finish(struct conn *conn);

/* AUTH_INFO and CONNECT, in one flight with TLS's Finished. */
static int conn_greet(struct conn *conn)
{
	struct conn_setup *setup = conn->setup;
	uint8_t message[WIRE_CONTROL_BYTES_MAX];
	struct wire_auth_info auth_info = {
		.kind = (uint8_t)setup->kind,
		.graph = setup->group,
		.source = setup->source,
		.destination = setup->expected[0] != '\0' ? setup->expected : NULL,
	};
	struct wire_connect connect = {
		.flags = setup->kind == PH_KIND_DIRECT ? WIRE_CONNECT_DIRECT : 0,
		.node_id = setup->node_id,
		.address_count = setup->address_count,
		.friendly_name = setup->friendly_name[0] != '\0' ? setup->friendly_name : NULL,
	};
	ssize_t bytes;
	int status;

	memcpy(connect.addresses, setup->addresses, sizeof(connect.addresses));
	bytes = wire_auth_info_write(message, sizeof(message), &auth_info);
	if (bytes < 0)
		return (int)bytes;
	status = conn_control(conn, message, (size_t)bytes);
	if (status < 0)
		return status;
	bytes = wire_connect_write(message, sizeof(message), &connect);
	if (bytes < 0)
		return (int)bytes;
	return conn_control(conn, message, (size_t)bytes);
}

static void conn_on_secured(struct conn *conn)
{
	struct shard *shard = conn->shard;
	struct ph_chain none = {0};
	int status;

	conn->handshake_done = true;
	conn_enter(conn, CONN_GREETING);
	if (conn->framing == PH_FRAMING_RAW) {
		if (!conn->secure) {
			if (conn_setup_ensure(conn) < 0) {
				conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, NULL);
				return;
			}
			conn->setup->verdict.tag =
				atomic_load_explicit(&conn_slot(conn)->tag, memory_order_relaxed);
			conn->setup->verdict.user = conn->user;
			if (conn_verify(conn, &none) < 0) {
				conn_leave(conn, PH_REASON_PROTOCOL_VERIFY, PH_SIDE_ENGINE, false,
					conn->setup->verdict.refusal);
				return;
			}
		}
		if (!conn_admit_named(conn))
			return;
		conn_open_finish(conn);
		if (conn->state == CONN_OPEN)
			conn_reading_update(conn);
		conn_work_later(conn);
		return;
	}
	if (conn->accepted) {
		conn_work_later(conn); /* AUTH_INFO may be here already; the deadline stays */
		return;
	}
	status = conn_greet(conn);
	if (status < 0) {
		conn_fail(conn,
			status == -ENOMEM ? PH_REASON_LIMIT_MEMORY : PH_REASON_PROTOCOL_MESSAGE,
			status, "AUTH_INFO and CONNECT could not be written");
		return;
	}
	timer_arm(&shard->timers, &conn->timer,
		shard->now_ns + (uint64_t)shard->hub->options.timeout_welcome_ms * 1000000u);
	conn_work_later(conn);
}

/* Two peer names with the same authority: the part before the first dot. */
static bool same_authority(const char *a, const char *b)
{
	size_t a_bytes = strcspn(a, "."), b_bytes = strcspn(b, ".");

	return a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0;
}

void conn_on_auth_info(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct wire_auth_info parsed;
	struct ph_chain none = {0};
	struct conn_setup *setup;
	const char *fault = NULL;

	if (wire_auth_info_parse(message, bytes, &parsed) < 0) {
		conn_leave(conn, PH_REASON_PROTOCOL_MESSAGE, PH_SIDE_ENGINE, true,
			"malformed AUTH_INFO");
		return;
	}
	if (conn_setup_ensure(conn) < 0) {
		conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, NULL);
		return;
	}
	setup = conn->setup;
	if (!conn->secure) {
		/* Without TLS nothing is proven: on_verify hears the peer's own words. */
		(void)name_copy(setup->verdict.group, sizeof(setup->verdict.group), parsed.graph);
		(void)name_copy(
			setup->verdict.identity, sizeof(setup->verdict.identity), parsed.source);
		setup->verdict.tag =
			atomic_load_explicit(&conn_slot(conn)->tag, memory_order_relaxed);
		setup->verdict.user = conn->user;
		(void)name_copy(setup->source, sizeof(setup->source),
			parsed.destination != NULL ? parsed.destination : parsed.graph);
		if (conn_verify(conn, &none) < 0) {
			conn_leave(conn, PH_REASON_PROTOCOL_VERIFY, PH_SIDE_ENGINE, true,
				setup->verdict.refusal);
			return;
		}
	} else {
		if (strcmp(parsed.source, setup->verdict.identity) != 0)
			fault = "AUTH_INFO names a source that is not the certificate's";
		else if (!same_authority(parsed.graph, setup->group))
			fault = "AUTH_INFO names a group that is not the server name's";
		else if (parsed.destination != NULL &&
			!same_authority(parsed.destination, setup->source))
			fault = "AUTH_INFO names a destination that is not the server name's";
	}
	if (fault != NULL) {
		conn_leave(conn, PH_REASON_PROTOCOL_HELLO, PH_SIDE_ENGINE, true, fault);
		return;
	}
	setup->kind = (enum ph_kind)parsed.kind;
	conn->kind = parsed.kind;
	setup->auth_info_seen = true;
}

static void conn_refuse(struct conn *conn, enum ph_refuse code)
{
	uint8_t message[WIRE_CONTROL_BYTES_MAX];
	ssize_t bytes = wire_refuse_write(message, sizeof(message), (uint8_t)code);

	SHARD_COUNT(conn->shard, refused_by_us);
	conn->refuse_code = (uint8_t)code;
	if (bytes < 0 || conn_control(conn, message, (size_t)bytes) < 0) {
		conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, NULL);
		return;
	}
	conn_leave(conn, PH_REASON_LOCAL_REFUSED, PH_SIDE_LOCAL, true, NULL);
}

static int conn_welcome(struct conn *conn, const struct ph_connect_answer *answer)
{
	struct conn_setup *setup = conn->setup;
	uint8_t message[WIRE_CONTROL_BYTES_MAX];
	struct wire_welcome welcome = {
		.node_id = answer->node_id,
		.peer_time = answer->peer_time,
		.peer_id = setup->source[0] != '\0' ? setup->source : "0.",
	};
	ssize_t bytes;

	if (conn->kind != PH_KIND_DIRECT && answer->addresses != NULL) {
		welcome.address_count = answer->address_count < PH_ADDRESSES_MAX
			? answer->address_count
			: PH_ADDRESSES_MAX;
		memcpy(welcome.addresses, answer->addresses,
			welcome.address_count * sizeof(welcome.addresses[0]));
	}
	bytes = wire_welcome_write(message, sizeof(message), &welcome);
	if (bytes < 0)
		return (int)bytes;
	return conn_control(conn, message, (size_t)bytes);
}

void conn_on_connect_message(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct ph_hub *hub = conn->shard->hub;
	struct conn_setup *setup = conn->setup;
	struct ph_connect_answer answer = {0};
	struct ph_connect_info info = {0};
	enum ph_refuse word = PH_ACCEPT;
	struct wire_connect parsed;

	if (wire_connect_parse(message, bytes, &parsed) < 0 ||
		((parsed.flags & WIRE_CONNECT_DIRECT) != 0) != (conn->kind == PH_KIND_DIRECT)) {
		conn_leave(conn, PH_REASON_PROTOCOL_MESSAGE, PH_SIDE_ENGINE, true,
			"malformed CONNECT");
		return;
	}
	conn->node_id = parsed.node_id;
	setup->address_count = parsed.address_count;
	memcpy(setup->addresses, parsed.addresses, sizeof(setup->addresses));
	if (!name_copy(setup->friendly_name, sizeof(setup->friendly_name), parsed.friendly_name))
		setup->friendly_name[0] = '\0';
	info.kind = (enum ph_kind)conn->kind;
	info.group = setup->verdict.group;
	info.identity = setup->verdict.identity;
	info.friendly_name = setup->friendly_name;
	info.node_id = parsed.node_id;
	info.addresses = setup->addresses;
	info.address_count = setup->address_count;
	info.peer_address = conn->peer_address;
	info.role = setup->verdict.role;
	if (!conn_admit_named(conn))
		return;
	if (hub->callbacks.on_connect != NULL)
		word = hub->callbacks.on_connect(hub->options.user, conn_id(conn),
			atomic_load_explicit(&conn_slot(conn)->tag, memory_order_relaxed),
			conn->user, &info, &answer);
	if (word != PH_ACCEPT) {
		conn_refuse(conn, word);
		return;
	}
	if (conn_welcome(conn, &answer) < 0) {
		conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, "no memory for WELCOME");
		return;
	}
	conn_open_finish(conn);
}

void conn_on_welcome(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct conn_setup *setup = conn->setup;
	struct wire_welcome parsed;
	const char *claimed;

	if (wire_welcome_parse(message, bytes, &parsed) < 0) {
		conn_leave(conn, PH_REASON_PROTOCOL_MESSAGE, PH_SIDE_ENGINE, true,
			"malformed WELCOME");
		return;
	}
	claimed = conn->secure ? setup->verdict.identity : setup->expected;
	if (claimed[0] != '\0' && strcmp(parsed.peer_id, claimed) != 0) {
		conn_leave(conn, PH_REASON_PROTOCOL_HELLO, PH_SIDE_ENGINE, true,
			"WELCOME names another identity");
		return;
	}
	if (!conn->secure) {
		(void)name_copy(setup->verdict.group, sizeof(setup->verdict.group), setup->group);
		(void)name_copy(
			setup->verdict.identity, sizeof(setup->verdict.identity), parsed.peer_id);
	}
	conn->node_id = parsed.node_id;
	setup->peer_time = parsed.peer_time;
	setup->address_count = parsed.address_count;
	memcpy(setup->addresses, parsed.addresses, sizeof(setup->addresses));
	if (!name_copy(setup->friendly_name, sizeof(setup->friendly_name), parsed.friendly_name))
		setup->friendly_name[0] = '\0';
	conn_open_finish(conn);
}

void conn_on_refuse(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct wire_refuse parsed;

	if (wire_refuse_parse(message, bytes, &parsed) < 0) {
		conn_leave(
			conn, PH_REASON_PROTOCOL_MESSAGE, PH_SIDE_ENGINE, true, "malformed REFUSE");
		return;
	}
	SHARD_COUNT(conn->shard, refused_by_peer);
	conn->refuse_code = parsed.code;
	conn_leave(conn, PH_REASON_REMOTE_REFUSED, PH_SIDE_REMOTE, false, NULL);
}

/* ---- open ------------------------------------------------------------------------------- */

static void conn_open_info(const struct conn *conn, struct ph_open_info *info)
{
	const struct conn_setup *setup = conn->setup;

	memset(info, 0, sizeof(*info));
	info->kind = (enum ph_kind)conn->kind;
	info->accepted = conn->accepted;
	info->tag = atomic_load_explicit(&conn_slot(conn)->tag, memory_order_relaxed);
	info->group = conn->names->text;
	info->identity = conn->names->text + conn->names->identity_offset;
	info->friendly_name = setup->friendly_name;
	info->node_id = conn->node_id;
	info->peer_time = setup->peer_time;
	info->addresses = setup->addresses;
	info->address_count = setup->address_count;
	info->peer_address = conn->peer_address;
	info->role = conn->names->role;
	info->resumed = conn->tls != NULL && tls_is_resumed(conn->tls);
}

/*
 * Open: names first, then the hash, then the word, so that whoever sees OPEN sees all of it; WELCOME is
 * already in out, ahead of anything a sender may push. If the word does not move, a ph_close came first
 * and its mail is on the way: this connection never opens.
 */
static void conn_open_finish(struct conn *conn)
{
	struct shard *shard = conn->shard;
	struct ph_hub *hub = shard->hub;
	struct conn_setup *setup = conn->setup;
	struct hash_key key;
	struct ph_open_info info;

	if (conn_names_set(
		    conn, setup->verdict.group, setup->verdict.identity, setup->verdict.role) < 0) {
		conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, "no memory for the peer's name");
		return;
	}
	if (setup->verdict.identity[0] != '\0') {
		key = digest_pair(setup->verdict.group, setup->verdict.identity);
		if (hash_insert(shard->hash, key, conn->slot_index, conn_id(conn)) < 0) {
			conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, "the hash is full");
			return;
		}
		conn->hashed = true;
	}
	conn->time_open_ns = shard->now_ns;
	conn->time_sent_ns = shard->now_ns;
	if (!slot_become_open(conn_slot(conn))) {
		conn->time_open_ns = 0;
		/* WELCOME must not leave any more: the opener would be open with nobody. */
		if (conn->accepted)
			chain_clear(&conn->out);
		return;
	}
	conn->was_open = true;
	if (conn->counted_handshake) {
		conn->counted_handshake = false;
		shard->handshakes--;
		conn_handshake_over(conn);
		shard_accept_update(shard);
	}
	conn_enter(conn, CONN_OPEN);
	SHARD_COUNT(shard, opened);
	atomic_store_explicit(&shard->open,
		atomic_load_explicit(&shard->open, memory_order_relaxed) + 1, memory_order_relaxed);
	timer_arm(&shard->timers, &conn->timer,
		shard->now_ns + (uint64_t)hub->options.ping_interval_ms * 1000000u);
	conn_resume_open(conn);
	conn_open_info(conn, &info);
	if (hub->callbacks.on_open != NULL)
		hub->callbacks.on_open(hub->options.user, conn_id(conn), conn->user, &info);
	conn_setup_destroy(conn->setup);
	conn->setup = NULL;
	conn_admitted(conn);
}
