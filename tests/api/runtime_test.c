/*
 * Start and end of Grouping, and where it listens: every code of PeerGroupStartup, PeerGroupShutdown
 * and PeerhubSetListen, and what Connect makes of the environment.
 */
#include "tests/api/p2p_test.h"

#include "api/runtime.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static struct agent plain; /* [::1]:0 */
static struct agent wrong; /* PEERHUB_LISTEN is not an address */
static struct agent open_port; /* nothing set: the default */
static struct agent no_ring; /* io_uring is refused */
static struct agent no_ipv6;
static struct agent slow; /* a time limit that is no number */

/* ---- start and end ------------------------------------------------------------------------ */

struct startup_request {
	WORD version;
	bool is_null;
};

struct startup_result {
	HRESULT result;
	PEER_VERSION_DATA version;
	char detail[256];
};

static void do_startup_version(const void *in, void *out)
{
	const struct startup_request *request = in;
	struct startup_result *answer = out;

	answer->result =
		PeerGroupStartup(request->version, request->is_null ? NULL : &answer->version);
	detail_copy(answer->detail, answer->result);
}

static struct startup_result agent_startup_version(
	const struct agent *agent, WORD version, bool is_null)
{
	struct startup_request request = {version, is_null};
	struct startup_result answer;

	agent_call(agent, do_startup_version, &request, &answer);
	return answer;
}

static void startup_without_version_data(void **state)
{
	(void)state;
	assert_result(agent_startup_version(&plain, PEER_GROUP_VERSION, true).result, E_INVALIDARG);
	assert_result(agent_shutdown(&plain), PEER_E_NOT_INITIALIZED);
}

static void startup_with_unsupported_version(void **state)
{
	static const WORD versions[] = {0, 0x0002, 0x0201, 0x0100, 0x0102, 0xffff};

	(void)state;
	for (size_t index = 0; index < sizeof(versions) / sizeof(*versions); index++) {
		struct startup_result answer =
			agent_startup_version(&plain, versions[index], false);

		assert_result(answer.result, PEER_E_UNSUPPORTED_VERSION);
		assert_int_equal(answer.version.wHighestVersion, PEER_GROUP_VERSION);
	}
	assert_result(agent_shutdown(&plain), PEER_E_NOT_INITIALIZED);
}

static void startup_with_both_versions_counted(void **state)
{
	struct startup_result answer;
	WCHAR name[NAME_UNITS];

	(void)state;
	answer = agent_startup_version(&plain, 0x0001, false);
	assert_result(answer.result, S_OK);
	assert_int_equal(answer.version.wVersion, 0x0001);
	assert_int_equal(answer.version.wHighestVersion, 0x0101);
	answer = agent_startup_version(&plain, 0x0101, false);
	assert_result(answer.result, S_OK);
	assert_int_equal(answer.version.wVersion, 0x0101);
	assert_result(agent_shutdown(&plain), S_OK);
	world_found(&plain, name); /* still started */
	agent_leave(&plain);
	assert_result(agent_shutdown(&plain), S_OK);
	assert_result(agent_shutdown(&plain), PEER_E_NOT_INITIALIZED);
	assert_result(agent_group_call(&plain, do_connect, NULL), PEER_E_NOT_INITIALIZED);
}

/* Ends with an open group, a registration and an enumeration, then starts again: all are dead. */
struct leftovers {
	HRESULT made, enumerate, item, register_event, shutdown, startup;
	HRESULT end, status, unregister, take;
};

static void do_leftovers(const void *in, void *out)
{
	struct leftovers *answer = out;
	PEER_GROUP_EVENT_REGISTRATION entry = {PEER_GROUP_EVENT_STATUS_CHANGED, NULL};
	struct create_result *made = calloc(1, sizeof(*made));
	HANDLE event = CreateEvent(NULL, FALSE, FALSE, NULL);
	PEER_GROUP_EVENT_DATA *data;
	PEER_VERSION_DATA version;
	HPEERENUM enumeration;
	HPEEREVENT events;
	ULONG count;
	DWORD status;

	if (made == NULL)
		return;
	do_create(in, made);
	answer->made = made->result;
	answer->enumerate = PeerGroupEnumMembers(made->group, 0, NULL, &enumeration);
	answer->item = PeerGetItemCount(enumeration, &count);
	answer->register_event = PeerGroupRegisterEvent(made->group, event, 1, &entry, &events);
	answer->shutdown = PeerGroupShutdown();
	answer->end = PeerEndEnumeration(enumeration);
	answer->startup = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	answer->status = PeerGroupGetStatus(made->group, &status);
	answer->take = PeerGroupGetEventData(events, &data);
	answer->unregister = PeerGroupUnregisterEvent(events);
	CloseHandle(event);
	free(made);
}

static void last_shutdown_drops_groups_enumerations_registrations(void **state)
{
	struct leftovers left;

	(void)state;
	assert_result(agent_startup(&plain), S_OK);
	agent_call(&plain, do_leftovers, &plain.identity, &left);
	assert_result(left.made, S_OK);
	assert_result(left.enumerate, S_OK);
	assert_result(left.item, S_OK);
	assert_result(left.register_event, S_OK);
	assert_result(left.shutdown, S_OK);
	assert_result(left.end, E_INVALIDARG);
	assert_result(left.startup, S_OK);
	assert_result(left.status, PEER_E_INVALID_GROUP);
	assert_result(left.take, E_INVALIDARG);
	assert_result(left.unregister, E_INVALIDARG);
	assert_result(agent_shutdown(&plain), S_OK);
}

/* The client's own native hub, whose callback asks for what would wait for itself. */
struct inside {
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
	HRESULT result;
};

static void inside_on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct inside *inside = hub_user;

	(void)id;
	(void)user;
	if (!info->accepted)
		return;
	pthread_mutex_lock(&inside->lock);
	inside->result = PeerGroupShutdown();
	inside->is_done = true;
	pthread_cond_signal(&inside->done);
	pthread_mutex_unlock(&inside->lock);
}

static void do_shutdown_inside(const void *in, void *out)
{
	static const struct ph_callbacks callbacks = {.on_open = inside_on_open};
	struct inside inside = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
	struct ph_options options = {.size = sizeof(options), .shard_count = 1, .user = &inside};
	struct ph_listen_options listen = {.framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE};
	struct ph_open_options dial = {
		.kind = PH_KIND_RAW, .framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE};
	struct results *answer = out;
	struct ph_hub *hub;
	uint64_t id;

	(void)in;
	listen.address.sin6_family = AF_INET6;
	listen.address.sin6_addr = in6addr_loopback;
	if (ph_hub_start(&options, &callbacks, &hub, NULL) < 0 ||
		ph_listen(hub, &listen, &dial.address) < 0 || ph_open(hub, &dial, &id) < 0)
		abort();
	pthread_mutex_lock(&inside.lock);
	while (!inside.is_done)
		pthread_cond_wait(&inside.done, &inside.lock);
	pthread_mutex_unlock(&inside.lock);
	answer->list[0] = inside.result;
	answer->list[1] = PeerGroupShutdown(); /* it was put off, not lost */
	if (ph_hub_stop(hub, PH_ABORT) < 0)
		abort();
}

static void shutdown_inside_a_native_callback_is_unexpected(void **state)
{
	WCHAR name[NAME_UNITS];
	struct results results;
	char none = 0;

	(void)state;
	assert_result(agent_startup(&plain), S_OK);
	world_found(&plain, name);
	agent_call(&plain, do_shutdown_inside, &none, &results);
	assert_results(results, E_UNEXPECTED, S_OK);
	assert_result(agent_shutdown(&plain), PEER_E_NOT_INITIALIZED);
	agent_leave(&plain);
}

/* ---- what the system refuses -------------------------------------------------------------- */

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FAIL(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* Go on with the next statement when equal, else skip `skip` of them. */
#define WHEN(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))

static int filter_install(struct sock_filter *statements, unsigned short count)
{
	struct sock_fprog program = {.len = count, .filter = statements};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* 0: installed. */
static void do_refuse_io_uring(const void *in, void *out)
{
	struct sock_filter filter[] = {LOAD(nr), WHEN(SYS_io_uring_setup, 1), FAIL(EPERM), ALLOW};

	(void)in;
	*(int *)out = filter_install(filter, sizeof(filter) / sizeof(*filter));
}

static void do_refuse_ipv6(const void *in, void *out)
{
	struct sock_filter filter[] = {LOAD(nr), WHEN(SYS_socket, 3), LOAD(args[0]),
		WHEN(AF_INET6, 1), FAIL(EAFNOSUPPORT), ALLOW};

	(void)in;
	*(int *)out = filter_install(filter, sizeof(filter) / sizeof(*filter));
}

static void io_uring_refused_is_cannot_start_service(void **state)
{
	struct startup_result answer;
	char none = 0;
	int status;

	(void)state;
	agent_call(&no_ring, do_refuse_io_uring, &none, &status);
	if (status != 0)
		skip();
	answer = agent_startup_version(&no_ring, PEER_GROUP_VERSION, false);
	assert_result(answer.result, PEER_E_CANNOT_START_SERVICE);
	assert_non_null(strstr(answer.detail, "io_uring"));
	assert_result(agent_shutdown(&no_ring), PEER_E_NOT_INITIALIZED);
}

static void no_ipv6_is_ipv6_not_installed(void **state)
{
	char none = 0;
	int status;

	(void)state;
	agent_call(&no_ipv6, do_refuse_ipv6, &none, &status);
	if (status != 0)
		skip();
	assert_result(agent_startup_version(&no_ipv6, PEER_GROUP_VERSION, false).result,
		PEER_E_IPV6_NOT_INSTALLED);
}

static void time_limit_that_is_no_number(void **state)
{
	struct startup_result answer = agent_startup_version(&slow, PEER_GROUP_VERSION, false);

	(void)state;
	assert_result(answer.result, E_INVALIDARG);
	assert_non_null(strstr(answer.detail, "PEERHUB_TIMEOUT_WELCOME_MS"));
	assert_result(agent_shutdown(&slow), PEER_E_NOT_INITIALIZED);
}

/* ---- listening ---------------------------------------------------------------------------- */

struct listen_request {
	bool is_null;
	char text[PH_ADDRESS_TEXT_BYTES];
};

static void do_set_listen(const void *in, void *out)
{
	const struct listen_request *request = in;

	*(HRESULT *)out = PeerhubSetListen(request->is_null ? NULL : request->text);
}

static HRESULT agent_set_listen(const struct agent *agent, const char *text)
{
	struct listen_request request = {.is_null = text == NULL};
	HRESULT result;

	if (text != NULL)
		(void)!snprintf(request.text, sizeof(request.text), "%s", text);
	agent_call(agent, do_set_listen, &request, &result);
	return result;
}

struct connect_detail {
	HRESULT result;
	char detail[256];
};

static void do_connect_detail(const void *in, void *out)
{
	struct connect_detail *answer = out;

	answer->result = PeerGroupConnect(*(const HGROUP *)in);
	detail_copy(answer->detail, answer->result);
}

/* A group, offline, with a registration for its status. */
static void found_offline(struct agent *agent)
{
	struct create_result *answer = calloc(1, sizeof(*answer));

	assert_non_null(answer);
	agent_call(agent, do_create, &agent->identity, answer);
	assert_result(answer->result, S_OK);
	agent->group = answer->group;
	free(answer);
	assert_result(
		agent_register_types(agent, agent->group, TYPES_STATUS, &agent->status), S_OK);
}

static void bad_environment_is_told_by_connect(void **state)
{
	struct connect_detail answer;
	HPEEREVENT events;

	(void)state;
	assert_result(agent_startup(&wrong), S_OK);
	agent_identity(&wrong, u"Wrong");
	found_offline(&wrong);
	agent_call(&wrong, do_connect_detail, &wrong.group, &answer);
	assert_result(answer.result, PEER_E_INVALID_ADDRESS);
	assert_non_null(strstr(answer.detail, "PEERHUB_LISTEN=localhost:http"));
	assert_int_equal(agent_status(&wrong), 0);
	assert_no_event(&wrong, wrong.status);
	/* The call wins over the environment, and the group is as good as before. */
	events = wrong.status;
	assert_result(agent_set_listen(&wrong, "[::1]:0"), S_OK);
	assert_result(agent_group_call(&wrong, do_connect, wrong.group), S_OK);
	assert_int_equal(agent_event(&wrong, events).status_flags, PEER_GROUP_STATUS_LISTENING);
	agent_leave(&wrong);
}

static void set_listen_of_what_is_no_address(void **state)
{
	static const char *const texts[] = {"", "x", "::1", "[::1]", "localhost:80", "[::1]:65536",
		"[::1]:-1", "127.0.0.1:", ":80", "[::1]:80 "};

	(void)state;
	for (size_t index = 0; index < sizeof(texts) / sizeof(*texts); index++)
		assert_result(agent_set_listen(&wrong, texts[index]), E_INVALIDARG);
	assert_result(agent_set_listen(&wrong, "127.0.0.1:0"), S_OK);
	found_offline(&wrong);
	assert_result(agent_group_call(&wrong, do_connect, wrong.group), S_OK);
	agent_wait_status(&wrong, PEER_GROUP_STATUS_LISTENING);
	agent_learn_address(&wrong);
	assert_true(IN6_IS_ADDR_V4MAPPED(&wrong.address.sin6.sin6_addr));
	agent_leave(&wrong);
	assert_result(agent_set_listen(&wrong, NULL), S_OK);
}

/* Somebody else's port: the outcome is an event. */
static void port_in_use_is_unable_to_listen(void **state)
{
	PEER_ADDRESS taken;
	int fd = silent_listen(&taken);
	char text[PH_ADDRESS_TEXT_BYTES];
	struct event event;

	(void)state;
	(void)!snprintf(text, sizeof(text), "[::1]:%u", ntohs(taken.sin6.sin6_port));
	assert_result(agent_set_listen(&wrong, text), S_OK);
	found_offline(&wrong);
	assert_result(agent_group_call(&wrong, do_connect, wrong.group), S_OK);
	event = agent_event(&wrong, wrong.status);
	assert_int_equal(event.type, PEER_GROUP_EVENT_CONNECTION_FAILED);
	assert_result(event.reason, PEER_E_UNABLE_TO_LISTEN);
	assert_no_event(&wrong, wrong.status);
	assert_int_equal(agent_status(&wrong), 0);
	close(fd);
	/* Free again: the next attempt succeeds. */
	assert_result(agent_group_call(&wrong, do_connect, wrong.group), S_OK);
	agent_wait_status(&wrong, PEER_GROUP_STATUS_LISTENING);
	agent_learn_address(&wrong);
	assert_int_equal(wrong.address.sin6.sin6_port, taken.sin6.sin6_port);
	agent_leave(&wrong);
	assert_result(agent_set_listen(&wrong, NULL), S_OK);
}

/* The default: port 3587, or any free one when that is taken, which is so for one of the two. */
static void default_port_or_any_free_one(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	assert_result(agent_startup(&open_port), S_OK);
	assert_result(agent_startup(&plain), S_OK);
	agent_identity(&open_port, u"Open");
	world_found(&open_port, name);
	assert_int_not_equal(open_port.address.sin6.sin6_port, 0);
	assert_result(agent_set_listen(&plain, "[::]:3587"), S_OK);
	world_found(&plain, name);
	assert_int_not_equal(plain.address.sin6.sin6_port, open_port.address.sin6.sin6_port);
	assert_false(IN6_IS_ADDR_UNSPECIFIED(&plain.address.sin6.sin6_addr));
	agent_leave(&plain);
	agent_leave(&open_port);
	assert_result(agent_set_listen(&plain, NULL), S_OK);
	assert_result(agent_shutdown(&plain), S_OK);
	assert_result(agent_shutdown(&open_port), S_OK);
}

/* Two groups of a process share its port; it is free when the last of them is closed. */
static void one_port_for_all_groups(void **state)
{
	WCHAR name[NAME_UNITS];
	PEER_ADDRESS first;
	HGROUP group;
	int fd;

	(void)state;
	assert_result(agent_startup(&plain), S_OK);
	world_found(&plain, name);
	first = plain.address;
	group = plain.group;
	world_found(&plain, name);
	assert_true(address_same(&first, &plain.address));
	assert_result(agent_group_call(&plain, do_close, group), S_OK);
	agent_leave(&plain);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&first.sin6, sizeof(first.sin6)), 0);
	close(fd);
	assert_result(agent_shutdown(&plain), S_OK);
}

static bool is_reachable(struct endpoint *endpoint)
{
	ph_address addresses[PH_ADDRESSES_MAX];
	bool is_there;
	int fd;

	if (endpoint_addresses(endpoint, addresses) == 0)
		return false;
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	is_there =
		fd >= 0 && connect(fd, (struct sockaddr *)&addresses[0], sizeof(addresses[0])) == 0;
	if (fd >= 0)
		close(fd);
	return is_there;
}

/* What a Connect or a Close that meets the last Shutdown does, in the order that hurts: it still uses
 * a port of the hub that has stopped when the next hub listens in the same place. 0: as it should. */
static void do_use_port_of_stopped_hub(const void *in, void *out)
{
	struct endpoint *late = NULL, *fresh = NULL;
	PEER_VERSION_DATA version;
	int *step = out;

	(void)in;
	*step = 1;
	if (FAILED(PeerGroupStartup(PEER_GROUP_VERSION, &version)) ||
		FAILED(runtime_listen(&late)) || !is_reachable(late))
		return;
	*step = 2;
	if (FAILED(PeerGroupShutdown()) || FAILED(PeerGroupStartup(PEER_GROUP_VERSION, &version)))
		return;
	*step = 3;
	if (FAILED(runtime_listen(&fresh)) || !is_reachable(fresh))
		return;
	*step = 4;
	runtime_listen_end(late);
	if (!is_reachable(fresh))
		return;
	runtime_listen_end(fresh);
	*step = SUCCEEDED(PeerGroupShutdown()) ? 0 : 5;
}

static void port_of_stopped_hub_is_nobody_elses(void **state)
{
	char none = 0;
	int step = -1;

	(void)state;
	agent_call(&plain, do_use_port_of_stopped_hub, &none, &step);
	assert_int_equal(step, 0);
}

static int agents_setup(void **state)
{
	(void)state;
	agent_identity(&plain, u"Plain"); /* needs no start */
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(startup_without_version_data),
		cmocka_unit_test(startup_with_unsupported_version),
		cmocka_unit_test(startup_with_both_versions_counted),
		cmocka_unit_test(last_shutdown_drops_groups_enumerations_registrations),
		cmocka_unit_test(shutdown_inside_a_native_callback_is_unexpected),
		cmocka_unit_test(io_uring_refused_is_cannot_start_service),
		cmocka_unit_test(no_ipv6_is_ipv6_not_installed),
		cmocka_unit_test(time_limit_that_is_no_number),
		cmocka_unit_test(bad_environment_is_told_by_connect),
		cmocka_unit_test(set_listen_of_what_is_no_address),
		cmocka_unit_test(port_in_use_is_unable_to_listen),
		cmocka_unit_test(default_port_or_any_free_one),
		cmocka_unit_test(one_port_for_all_groups),
		cmocka_unit_test(port_of_stopped_hub_is_nobody_elses),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	unsetenv("PEERHUB_LISTEN");
	agent_start(&plain, "plain", "[::1]:0");
	agent_start(&wrong, "wrong", "localhost:http");
	agent_start(&open_port, "open", NULL);
	agent_start(&no_ring, "no-ring", "[::1]:0");
	agent_start(&no_ipv6, "no-ipv6", "[::1]:0");
	setenv("PEERHUB_TIMEOUT_WELCOME_MS", "soon", 1);
	agent_start(&slow, "slow", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&plain);
	failures += agent_stop(&wrong);
	failures += agent_stop(&open_port);
	failures += agent_stop(&no_ring);
	failures += agent_stop(&no_ipv6);
	failures += agent_stop(&slow);
	return failures;
}
