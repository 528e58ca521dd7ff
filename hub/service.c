/*
 * service.c: see service.h. A reload reads the file into a second configuration; only from a file without a
 * fault are keys taken over, all those that a running hub can. So the first always is what is in force.
 */
#include "service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "admin.h"
#include "admin_change.h"
#include "confine.h"
#include "dashboard.h"
#include "drain.h"
#include "ends.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "notify.h"
#include "overview.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "quota.h"
#include "say.h"
#include "text.h"

static struct {
	struct config config;
	const char *path; /* NULL: no file */
	const char *const *overrides; /* of the command line: they win over the file */
	size_t override_count;
	struct ph_hub *hub; /* once it serves */
	struct ph_hub *draining; /* the hub, while it may be drained */
	uint64_t begin_ms, group_count;
	uint64_t watchdog_ms, watchdog_next_ms;
	char admin_path[256];
	bool is_activated; /* by a socket */
	bool has_config, has_ends, is_ready, is_stopping;
	bool has_end_wish; /* a drain that ends the process has been asked for */
} service;

const struct config *service_config(void)
{
	return &service.config;
}

bool service_is_stopping(void)
{
	return service.is_stopping;
}

/* ---- the library --------------------------------------------------------------------------- */

static void on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity)
{
	overview_on_end(receipt->id);
	ends_on_end(user, receipt, group, identity);
}

static int engine_choose(const struct config *config)
{
	struct ph_options options = {.size = sizeof(options),
		.shard_count = (uint32_t)config->shards,
		.connections_per_shard = (uint32_t)config->connections_per_shard,
		.handshakes_per_shard = (uint32_t)config->handshakes_per_shard,
		.message_bytes_max = (uint32_t)config->message_bytes,
		.send_queue_bytes = (uint32_t)config->send_queue_bytes,
		.reassembly_bytes_max = config->reassembly_bytes,
		.timeout_connect_ms = (uint32_t)config->timeout_connect_ms,
		.timeout_handshake_ms = (uint32_t)config->timeout_handshake_ms,
		.timeout_welcome_ms = (uint32_t)config->timeout_welcome_ms,
		.timeout_close_ms = (uint32_t)config->timeout_close_ms,
		.timeout_dead_ms = (uint32_t)config->timeout_dead_ms,
		.ping_interval_ms = (uint32_t)config->ping_interval_ms};
	HRESULT result;

	quota_choose(config, &options);
	result = PeerhubSetEngine(&options);

	if (SUCCEEDED(result))
		result = PeerhubSetOpenCallback(overview_on_open, NULL);
	if (SUCCEEDED(result))
		result = PeerhubSetEndCallback(on_end, NULL);
	if (SUCCEEDED(result) && config->store[0] != '\0')
		result = PeerhubSetHome(config->store);
	if (SUCCEEDED(result) && config->listen[0] != '\0')
		result = PeerhubSetListen(config->listen);
	if (SUCCEEDED(result))
		return 0;
	say_result(result, "cannot begin as \"%s\" says", service.path);
	return EXIT_FAILED;
}

static int inherit_socket(int fd)
{
	HRESULT result;

	if (fd == -EINVAL) {
		say_error("more than one socket was handed over: a hub listens on one");
		return EXIT_FAILED;
	}
	if (fd < 0)
		return 0;
	result = PeerhubSetListenDescriptor(fd);
	service.is_activated = SUCCEEDED(result);
	if (SUCCEEDED(result))
		return 0;
	say_result(result, "cannot listen on the socket that was handed over");
	return EXIT_FAILED;
}

static void drain_choose(const struct config *config)
{
	admin_change_configure(
		config->drain_grace_ms, config->drain_over_ms, config->drain_retry_after_ms);
}

static void log_choose(const struct config *config)
{
	log_configure((enum config_log_level)config->log_level,
		(enum config_log_format)config->log_format, config->log_ends_per_second);
}

void service_override(const char *const *texts, size_t count)
{
	service.overrides = texts;
	service.override_count = count;
}

static int overrides_take(struct config *config)
{
	int status = 0;

	for (size_t i = 0; i < service.override_count && status == 0; i++)
		status = config_override(config, service.overrides[i]);
	return status;
}

/* Without a file: the limits are on all the same, and the rest is the library's. */
static int limits_choose(const struct config *config)
{
	struct ph_options options = {.size = sizeof(options)};
	HRESULT result;

	quota_choose(config, &options);
	result = PeerhubSetEngine(&options);
	if (SUCCEEDED(result))
		return 0;
	say_result(result, "cannot set limits");
	return EXIT_FAILED;
}

int service_begin(const char *config_path, int inherited)
{
	int status;

	service.path = config_path;
	service.begin_ms = loop_now_ms();
	if (config_init(&service.config) < 0) {
		say_error("out of memory");
		return EXIT_FAILED;
	}
	service.has_config = true;
	if (config_path == NULL) {
		if (overrides_take(&service.config) < 0)
			return EXIT_USAGE;
		status = limits_choose(&service.config);
		return status == 0 ? inherit_socket(inherited) : status;
	}
	status = config_read(&service.config, config_path);
	if (status == 0)
		status = overrides_take(&service.config);
	if (status < 0)
		return status == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	log_choose(&service.config);
	if (ends_begin((size_t)service.config.history_ends) < 0) {
		say_error("out of memory");
		return EXIT_FAILED;
	}
	service.has_ends = true;
	status = engine_choose(&service.config);
	return status == 0 ? inherit_socket(inherited) : status;
}

/* ---- beside serving ------------------------------------------------------------------------ */

/* The file's name may be any bytes. */
static json_t *path_json(void)
{
	char *clean = text_escape(service.path, strlen(service.path), false);
	json_t *json = clean != NULL ? json_string(clean) : NULL;

	free(clean);
	return json;
}

static void config_add(const char *key, const char *value, const char *unit,
	enum config_origin origin, void *context)
{
	json_t *set = origin == CONFIG_FILE ? path_json()
		: origin == CONFIG_DEFAULT  ? json_string("default")
					    : json_string("command line");

	(void)json_array_append_new(context,
		json_pack("{s:s, s:s, s:s, s:o}", "key", key, "value", value, "unit", unit, "set",
			set));
}

static void config_tell(void)
{
	json_t *keys = json_array();

	if (keys != NULL)
		config_each(&service.config, config_add, keys);
	admin_config_said(keys);
}

static const char *admin_path(void)
{
	const char *directory = getenv("RUNTIME_DIRECTORY");

	if (service.config.admin_socket[0] != '\0')
		return service.config.admin_socket;
	if (directory == NULL || directory[0] == '\0')
		return NULL;
	/* More than one directory is separated by colons: the first is meant. */
	snprintf(service.admin_path, sizeof(service.admin_path), "%.*s/admin.sock",
		(int)(strchrnul(directory, ':') - directory), directory);
	return service.admin_path;
}

static int dashboard_begin(const struct admin_options *admin)
{
	const struct config *config = &service.config;

	return dashboard_start(&(struct dashboard_options){.listen = config->dashboard_listen,
		.token_file = config->dashboard_token_file,
		.may_close = config->dashboard_allow_close,
		.is_closed = config->dashboard_token_to_read,
		.requests_per_second = config->dashboard_requests_per_second,
		.admin = *admin});
}

/* Where it may listen: wherever the configuration has an address for it. */
static void confine_add(const char *key, const char *value, const char *unit,
	enum config_origin origin, void *context)
{
	struct confine_options *options = context;
	const char *last = strrchr(key, '.');
	ph_address address;

	(void)unit;
	(void)origin;
	if (last == NULL || strcmp(last, ".listen") != 0 || value[0] == '\0')
		return;
	/* The number that port 0 becomes is asked for by each shard, so it could be any. */
	if (ph_address_parse(value, &address) < 0 || address.sin6_port == 0 ||
		options->port_count == CONFINE_PORTS_MAX)
		options->has_any_port = true;
	else
		options->ports[options->port_count++] = ntohs(address.sin6_port);
}

static void confine_say(int status)
{
	if (service.path != NULL)
		LOG(confine_is_whole() ? CONFIG_LOG_INFO : CONFIG_LOG_WARNING, "confined",
			LOG_T("text", confine_text()));
	else if (status < 0)
		say_note("not confined: %s", confine_text());
}

int service_confine(const char *receive, const char *listen)
{
	struct confine_options options = {.config = service.path};
	const char *given = listen != NULL ? listen : getenv("PEERHUB_LISTEN");
	char home[PATH_MAX];
	int status;

	if (service.config.confinement != CONFIG_CONFINEMENT_FULL)
		return 0;
	if (SUCCEEDED(PeerhubGetHome(home, sizeof(home))))
		options.store = home;
	if (receive != NULL && strcmp(receive, "-") != 0) {
		if (mkdir(receive, 0777) < 0 && errno != EEXIST) {
			say_error("cannot make \"%s\": %s", receive, strerror(errno));
			return -EIO;
		}
		options.receive = receive;
	}
	options.token = service.config.dashboard_token_file;
	options.admin_socket = service.path != NULL ? admin_path() : NULL;
	config_each(&service.config, confine_add, &options);
	if (service.is_activated)
		given = NULL;
	else if (given == NULL && service.config.listen[0] == '\0')
		options.has_any_port = true;
	if (given != NULL)
		confine_add("given.listen", given, "", false, &options);
	status = confine_begin(&options);
	if (status < 0)
		confine_say(status);
	return 0;
}

int service_start(struct ph_hub *hub, const char *identity)
{
	struct admin_options options = {.hub = hub,
		.identity = identity,
		.config_path = service.path,
		.begin_ms = service.begin_ms,
		.requests_per_second = service.config.admin_requests_per_second};

	service.hub = hub;
	/* All rings are there; the threads to come inherit it. */
	if (service.config.confinement == CONFIG_CONFINEMENT_FULL)
		confine_say(confine_finish());
	if (service.path == NULL)
		return 0;
	if (overview_start(hub) < 0) {
		say_error("out of memory");
		return -EIO;
	}
	drain_choose(&service.config);
	options.path = admin_path();
	if (options.path != NULL) {
		config_tell();
		if (admin_start(&options) < 0)
			return -EIO;
	}
	if (service.config.dashboard_listen[0] != '\0' && dashboard_begin(&options) < 0)
		return -EIO;
	if (service.config.metrics_listen[0] != '\0' &&
		metrics_start(service.config.metrics_listen, hub) < 0)
		return -EIO;
	return 0;
}

void service_ready(uint64_t group_count)
{
	service.is_ready = true;
	/* Not before: a drain that was asked for earlier begins now, with all groups and after READY. */
	service.draining = service.path != NULL ? service.hub : NULL;
	service.group_count = group_count;
	service.watchdog_ms = notify_watchdog_ms();
	metrics_ready(true);
	if (service.path != NULL)
		LOG(CONFIG_LOG_INFO, "ready", LOG_N("groups", group_count));
	notify_say("READY=1\nSTATUS=serving %" PRIu64 " groups", group_count);
}

static bool is_draining(void)
{
	struct drain_progress progress;

	drain_look(&progress);
	return progress.state != DRAIN_SERVING;
}

void service_groups(uint64_t group_count)
{
	service.group_count = group_count;
	if (service.is_ready && !is_draining())
		notify_say("STATUS=serving %" PRIu64 " groups", group_count);
}

void service_stop(void)
{
	service.is_ready = false;
	service.draining = NULL;
	metrics_ready(false);
	notify_say("STOPPING=1\nSTATUS=closing");
	metrics_stop();
	dashboard_stop();
	admin_stop();
	drain_end();
	admin_config_said(NULL);
	overview_stop();
}

void service_end(void)
{
	overview_forget();
	if (service.has_ends)
		ends_end();
	if (service.has_config)
		config_fini(&service.config);
	service.has_ends = service.has_config = false;
}

/* ---- reload -------------------------------------------------------------------------------- */

struct fixed {
	char keys[200];
	size_t bytes;
};

static void fixed_add(const char *key, void *context)
{
	struct fixed *fixed = context;

	if (fixed->bytes < sizeof(fixed->keys))
		fixed->bytes += (size_t)snprintf(fixed->keys + fixed->bytes,
			sizeof(fixed->keys) - fixed->bytes, "%s%s", fixed->bytes > 0 ? ", " : "",
			key);
}

static void reload_failed(const char *text)
{
	LOG(CONFIG_LOG_ERROR, "reload_failed", LOG_T("file", service.path), LOG_T("text", text));
	admin_reload_said(false, text);
}

static void reload(void (*on_reload)(const struct config *config, void *context), void *context)
{
	struct fixed fixed = {.keys = ""};
	struct config config;
	char text[256];
	int status;

	/* While the hub starts, systemd waits for the first READY, which is service_ready's. */
	if (service.is_ready)
		notify_reloading();
	status = config_init(&config);
	if (status == 0) {
		status = config_read(&config, service.path);
		if (status == 0)
			status = overrides_take(&config);
		if (status < 0)
			config_fini(&config);
	}
	if (status < 0) {
		reload_failed(status == -EINVAL ? "the file is wrong: nothing was changed"
						: "the file cannot be read: nothing was changed");
	} else {
		config_fixed_changes(&service.config, &config, fixed_add, &fixed);
		config_take_live(&service.config, &config);
		config_fini(&config);
		log_choose(&service.config);
		if (service.hub != NULL)
			quota_reload(&service.config, service.hub);
		admin_rate_set(service.config.admin_requests_per_second);
		drain_choose(&service.config);
		dashboard_rate_set(service.config.dashboard_requests_per_second);
		config_tell();
		on_reload(&service.config, context);
		snprintf(text, sizeof(text), "%s%s",
			fixed.bytes > 0 ? "counts from the next start: " : "all is in force",
			fixed.keys);
		LOG(CONFIG_LOG_INFO, "reloaded", LOG_T("file", service.path), LOG_T("text", text));
		admin_reload_said(true, text);
	}
	/* The end of the reload, which systemd waits for; the status stays the drain's. */
	if (service.is_ready && is_draining())
		notify_say("READY=1\nSTATUS=draining");
	else if (service.is_ready)
		notify_say("READY=1\nSTATUS=serving %" PRIu64 " groups", service.group_count);
}

/* ---- drain and end ------------------------------------------------------------------------- */

void service_end_wish(void)
{
	/* Without a file it ends at once, and so does one that serves nobody yet, or hears it twice. */
	if (service.draining == NULL || !service.is_ready || service.has_end_wish) {
		service.is_stopping = true;
		return;
	}
	service.has_end_wish = true;
	admin_change_drain_for_stop();
}

static uint64_t drain_turn(uint64_t now_ms)
{
	struct drain_progress progress;
	uint64_t wake;

	if (service.draining == NULL)
		return LOOP_NEVER;
	wake = drain_step(service.draining, service.config.timeout_close_ms, now_ms);
	drain_look(&progress);
	if (progress.state == DRAIN_EMPTY && progress.is_for_stop)
		service.is_stopping = true;
	/* An undrain: the next signal begins anew. */
	if (progress.state == DRAIN_SERVING)
		service.has_end_wish = false;
	return wake;
}

uint64_t service_step(uint64_t now_ms,
	void (*on_reload)(const struct config *config, void *context), void *context)
{
	uint64_t drain_wake_ms;
	unsigned wishes;

	if (service.path == NULL)
		return LOOP_NEVER;
	wishes = admin_wishes();
	if (wishes & ADMIN_STOP)
		service_end_wish();
	drain_wake_ms = drain_turn(now_ms);
	if (service.is_stopping)
		return now_ms;
	if (loop_hangup() || (wishes & ADMIN_RELOAD)) {
		reload(on_reload, context);
		return now_ms; /* whoever waits now does not know the new groups yet */
	}
	if (service.watchdog_ms == 0)
		return drain_wake_ms;
	if (now_ms >= service.watchdog_next_ms) {
		notify_say("WATCHDOG=1");
		service.watchdog_next_ms = now_ms + service.watchdog_ms;
	}
	return loop_earlier(drain_wake_ms, service.watchdog_next_ms);
}

void service_fds(int fds[SERVICE_FDS_MAX])
{
	fds[0] = loop_hangup_fd();
	fds[1] = admin_wish_fd();
}
