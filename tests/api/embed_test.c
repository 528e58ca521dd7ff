/*
 * What a program that embeds p2p.h chooses before Grouping starts: the engine's options, an inherited
 * socket, and who hears of opens and ends (PeerhubSetEngine, PeerhubSetListenDescriptor, PeerhubSetOpenCallback,
 * PeerhubSetEndCallback).
 */
#include "tests/api/p2p_test.h"

#include <stdatomic.h>

#define ENDS_MAX 64u

static struct agent host; /* chooses */
static struct agent guest;

/* ---- in the host -------------------------------------------------------------------------- */

struct end {
	uint64_t id;
	uint32_t reason;
	char group[128], identity[128];
};

struct ends {
	uint32_t count, opened_count;
	struct end ends[ENDS_MAX];
	uint64_t opened[ENDS_MAX];
	uint32_t unannounced; /* ends of open connections whose opening was not told */
};

static struct {
	pthread_mutex_t lock;
	struct ends ends;
	int inherited;
} chosen = {.lock = PTHREAD_MUTEX_INITIALIZER, .inherited = -1};

static void on_open(
	void *user, uint64_t id, const char *group, const char *identity, const char *friendly_name)
{
	if (user != &chosen || group[0] == '\0' || identity[0] == '\0' || friendly_name == NULL)
		abort();
	pthread_mutex_lock(&chosen.lock);
	if (chosen.ends.opened_count < ENDS_MAX)
		chosen.ends.opened[chosen.ends.opened_count++] = id;
	pthread_mutex_unlock(&chosen.lock);
}

/* How often the opening of a connection was told. */
static uint32_t opened_times(const struct ends *ends, uint64_t id)
{
	uint32_t times = 0;

	for (uint32_t i = 0; i < ends->opened_count; i++)
		times += ends->opened[i] == id;
	return times;
}

static void on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity)
{
	struct end *end;

	if (user != &chosen)
		abort();
	pthread_mutex_lock(&chosen.lock);
	chosen.ends.unannounced +=
		opened_times(&chosen.ends, receipt->id) != (receipt->was_open ? 1u : 0u);
	if (chosen.ends.count < ENDS_MAX) {
		end = &chosen.ends.ends[chosen.ends.count++];
		end->id = receipt->id;
		end->reason = receipt->reason;
		(void)!snprintf(end->group, sizeof(end->group), "%s", group);
		(void)!snprintf(end->identity, sizeof(end->identity), "%s", identity);
	}
	pthread_mutex_unlock(&chosen.lock);
}

static void do_set_end_callback(const void *in, void *out)
{
	bool is_set = *(const bool *)in;

	*(HRESULT *)out = PeerhubSetEndCallback(is_set ? on_end : NULL, is_set ? &chosen : NULL);
	if (PeerhubSetOpenCallback(is_set ? on_open : NULL, is_set ? &chosen : NULL) !=
		*(HRESULT *)out)
		abort();
}

static void do_ends(const void *in, void *out)
{
	(void)in;
	pthread_mutex_lock(&chosen.lock);
	memcpy(out, &chosen.ends, sizeof(chosen.ends));
	pthread_mutex_unlock(&chosen.lock);
}

struct engine_request {
	uint32_t size, connections;
	bool is_null;
};

static void do_set_engine(const void *in, void *out)
{
	const struct engine_request *request = in;
	struct ph_options options = {.size = request->size,
		.shard_count = 1,
		.connections_per_shard = request->connections};

	*(HRESULT *)out = PeerhubSetEngine(request->is_null ? NULL : &options);
}

static void do_capacity(const void *in, void *out)
{
	struct ph_statistics stats;
	struct ph_hub *hub;
	uint64_t tag;

	*(uint64_t *)out = 0;
	if (FAILED(PeerhubGroupNative(*(const HGROUP *)in, &hub, &tag)))
		return;
	ph_stats(hub, &stats);
	*(uint64_t *)out = stats.slots * 1000 + stats.shards;
}

/* Inherit a socket that listens on [::1]; returns its port. */
static void do_inherit(const void *in, void *out)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)in;
	*(uint16_t *)out = 0;
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, bytes) < 0 || listen(fd, 16) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &bytes) < 0 ||
		FAILED(PeerhubSetListenDescriptor(fd)))
		return;
	chosen.inherited = fd;
	*(uint16_t *)out = address.sin6_port;
}

static void do_disinherit(const void *in, void *out)
{
	(void)in;
	*(HRESULT *)out = PeerhubSetListenDescriptor(-1);
	close(chosen.inherited);
}

/* A pipe, a socket that does not listen, a datagram socket: none is one to listen on. */
static void do_inherit_wrong(const void *in, void *out)
{
	HRESULT *results = out;
	int pipes[2], stream, datagram;

	(void)in;
	stream = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	datagram = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (stream < 0 || datagram < 0 || pipe(pipes) < 0)
		return;
	results[0] = PeerhubSetListenDescriptor(pipes[0]);
	results[1] = PeerhubSetListenDescriptor(stream);
	results[2] = PeerhubSetListenDescriptor(datagram);
	close(pipes[0]);
	close(pipes[1]);
	close(stream);
	close(datagram);
}

/* ---- tests -------------------------------------------------------------------------------- */

static HRESULT host_set_engine(uint32_t size, uint32_t connections, bool is_null)
{
	struct engine_request request = {size, connections, is_null};
	HRESULT result;

	agent_call(&host, do_set_engine, &request, &result);
	return result;
}

static HRESULT host_set_end_callback(bool is_set)
{
	HRESULT result;

	agent_call(&host, do_set_end_callback, &is_set, &result);
	return result;
}

static void engine_options_of_another_version(void **state)
{
	(void)state;
	assert_result(host_set_engine(0, 0, false), E_INVALIDARG);
	assert_result(host_set_engine(sizeof(struct ph_options) - 4, 0, false), E_INVALIDARG);
}

static void engine_options_count_from_the_next_start(void **state)
{
	WCHAR name[NAME_UNITS];
	uint64_t capacity;

	(void)state;
	assert_result(host_set_engine(sizeof(struct ph_options), 96, false), S_OK);
	assert_result(agent_startup(&host), S_OK);
	world_found(&host, name);
	/* A later choice is for a later start. */
	assert_result(host_set_engine(0, 0, true), S_OK);
	agent_call(&host, do_capacity, &host.group, &capacity);
	assert_int_equal(capacity, 96001);
	agent_leave(&host);
	assert_result(agent_shutdown(&host), S_OK);
	assert_result(agent_startup(&host), S_OK);
	world_found(&host, name);
	agent_call(&host, do_capacity, &host.group, &capacity);
	assert_true(capacity / 1000 > 96);
	agent_leave(&host);
	assert_result(agent_shutdown(&host), S_OK);
}

static void what_does_not_listen_cannot_be_inherited(void **state)
{
	HRESULT results[3] = {S_OK, S_OK, S_OK};
	char none = 0;

	(void)state;
	agent_call(&host, do_inherit_wrong, &none, &results);
	assert_result(results[0], E_INVALIDARG);
	assert_result(results[1], E_INVALIDARG);
	assert_result(results[2], E_INVALIDARG);
}

static void an_inherited_socket_is_listened_on(void **state)
{
	WCHAR name[NAME_UNITS];
	HRESULT result;
	uint16_t port;
	char none = 0;

	(void)state;
	agent_call(&host, do_inherit, &none, &port);
	assert_int_not_equal(port, 0);
	assert_result(agent_startup(&host), S_OK);
	assert_result(agent_startup(&guest), S_OK);
	world_found(&host, name);
	assert_int_equal(host.address.sin6.sin6_port, port);
	/* Peers reach it, and again after a stop: the socket stays its owner's. */
	world_join(&host, &guest, 0);
	world_enter(&host, &guest);
	agent_leave(&guest);
	agent_leave(&host);
	assert_result(agent_shutdown(&host), S_OK);
	assert_result(agent_startup(&host), S_OK);
	world_found(&host, name);
	assert_int_equal(host.address.sin6.sin6_port, port);
	agent_leave(&host);
	agent_call(&host, do_disinherit, &none, &result);
	assert_result(result, S_OK);
	world_found(&host, name);
	assert_int_not_equal(host.address.sin6.sin6_port, port);
	agent_leave(&host);
	assert_result(agent_shutdown(&host), S_OK);
	assert_result(agent_shutdown(&guest), S_OK);
}

static void end_callback_is_chosen_before_the_start(void **state)
{
	(void)state;
	assert_result(agent_startup(&host), S_OK);
	assert_result(host_set_end_callback(true), PEER_E_GROUP_IN_USE);
	assert_result(agent_shutdown(&host), S_OK);
}

static const struct end *end_find(const struct ends *ends, uint64_t id)
{
	for (uint32_t i = 0; i < ends->count; i++)
		if (ends->ends[i].id == id)
			return &ends->ends[i];
	return NULL;
}

static void every_end_is_told_once_with_its_names(void **state)
{
	struct ends *ends = calloc(1, sizeof(*ends));
	const struct end *end = NULL;
	struct pair pair;
	uint32_t seen = 0;
	char none = 0;

	(void)state;
	assert_non_null(ends);
	assert_result(host_set_end_callback(true), S_OK);
	assert_result(agent_startup(&host), S_OK);
	assert_result(agent_startup(&guest), S_OK);
	world_make(&host, &guest);
	pair = pair_open(&guest, &host);
	assert_result(agent_close_direct(&guest, pair.from), S_OK);
	for (int i = 0; i < 600 && end == NULL; i++) {
		usleep(100000);
		agent_call(&host, do_ends, &none, ends);
		end = end_find(ends, pair.to);
	}
	assert_non_null(end);
	assert_int_equal(end->reason, PH_REASON_REMOTE_CLOSE);
	assert_int_not_equal(end->group[0], 0);
	assert_int_not_equal(end->identity[0], 0);
	agent_leave(&guest);
	agent_leave(&host);
	assert_result(agent_shutdown(&host), S_OK);
	agent_call(&host, do_ends, &none, ends);
	for (uint32_t i = 0; i < ends->count; i++)
		seen += ends->ends[i].id == pair.to;
	assert_int_equal(seen, 1);
	assert_true(ends->count >= 2); /* the neighbor connection, too */
	assert_int_equal(opened_times(ends, pair.to), 1);
	assert_int_equal(ends->unannounced, 0);
	assert_result(host_set_end_callback(false), S_OK);
	assert_result(agent_shutdown(&guest), S_OK);
	free(ends);
}

static int agents_setup(void **state)
{
	(void)state;
	agent_identity(&host, u"Host");
	agent_identity(&guest, u"Guest");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engine_options_of_another_version),
		cmocka_unit_test(engine_options_count_from_the_next_start),
		cmocka_unit_test(what_does_not_listen_cannot_be_inherited),
		cmocka_unit_test(an_inherited_socket_is_listened_on),
		cmocka_unit_test(end_callback_is_chosen_before_the_start),
		cmocka_unit_test(every_end_is_told_once_with_its_names),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	unsetenv("PEERHUB_LISTEN");
	agent_start(&host, "host", "[::1]:0");
	agent_start(&guest, "guest", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&host);
	failures += agent_stop(&guest);
	return failures;
}
