/*
 * config.h: what a hub is told by its configuration file. One table (config_keys) holds every key with
 * its unit, range, default and meaning; parsing, checking, the printed reference and docs/configuration.md
 * all come from it.
 *
 * The file is INI: "[section]", "key = value", comments with ; or #. An unknown section or key, a key
 * given twice, and a value out of its range are errors that name file and line; a file with an error
 * yields no configuration at all. One thread.
 */
#ifndef PEERHUB_HUB_CONFIG_H
#define PEERHUB_HUB_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_LIST_MAX 64u /* values of one key that may be repeated: groups of a hub */
#define CONFIG_LINE_BYTES_MAX 190u /* of one line: what the INI parser holds */

enum config_log_level {
	CONFIG_LOG_ERROR,
	CONFIG_LOG_WARNING,
	CONFIG_LOG_INFO,
	CONFIG_LOG_DEBUG,
};

enum config_log_format {
	CONFIG_LOG_TEXT,
	CONFIG_LOG_LOGFMT,
	CONFIG_LOG_JSON,
	CONFIG_LOG_JOURNAL,
};

/* Where a value comes from. */
enum config_origin {
	CONFIG_DEFAULT, /* or the file says the same */
	CONFIG_FILE,
	CONFIG_COMMAND_LINE,
};

enum config_confinement {
	CONFIG_CONFINEMENT_FULL, /* as far as the kernel has it */
	CONFIG_CONFINEMENT_NO,
};

/* Texts are owned by the configuration; "" is not set. */
struct config {
	/* [hub] */
	char *identity, *listen, *neighbor, *store, *receive;
	char *groups[CONFIG_LIST_MAX];
	size_t group_count;
	uint64_t shards, timeout_ready_s;
	bool lines;
	/* [limits] */
	uint64_t connections_per_shard, handshakes_per_shard, message_bytes, send_queue_bytes,
		reassembly_bytes;
	uint64_t connections, group_connections, identity_connections, subnet_connections,
		handshakes, handshake_share, accept_rate, message_rate, send_total_bytes,
		memory_bytes, loop_lag_ms, retry_after_ms;
	uint64_t slow_consumer, slow_consumer_ms, duplicates; /* of choices: the word's place */
	/* [timeouts] */
	uint64_t timeout_connect_ms, timeout_handshake_ms, timeout_welcome_ms, timeout_close_ms,
		timeout_dead_ms, ping_interval_ms;
	/* [drain] */
	uint64_t drain_grace_ms, drain_over_ms, drain_retry_after_ms;
	/* [log] */
	uint64_t log_level, log_format; /* enum config_log_level, enum config_log_format */
	uint64_t log_ends_per_second;
	/* [admin] */
	char *admin_socket;
	uint64_t admin_requests_per_second;
	/* [metrics] */
	char *metrics_listen;
	/* [dashboard] */
	char *dashboard_listen, *dashboard_token_file;
	bool dashboard_allow_close, dashboard_token_to_read;
	uint64_t dashboard_requests_per_second;
	/* [confinement] */
	uint64_t confinement; /* enum config_confinement */
	/* [history] */
	uint64_t history_ends;
	uint64_t overridden; /* a bit for each key of the table: config_override */
};

/* All defaults. 0 or -ENOMEM (then nothing is owned). */
int config_init(struct config *config);
void config_fini(struct config *config);

/*
 * Read a file into *config, which config_init made. Every error found is said on stderr as
 * "FILE:LINE: …", with the key and what is allowed.
 * 0, -EINVAL (the file is wrong), -EIO (it cannot be read), -ENOMEM. After an error *config may only be freed.
 */
int config_read(struct config *config, const char *path);

/* "SECTION.KEY=VALUE" of the command line, which wins over the file: to be called behind config_read, each time.
 * 0, -EINVAL (said), -ENOMEM. */
int config_override(struct config *config, const char *text);

/* Name each key whose value differs and that a running hub cannot take over ("hub.listen"), in the order
 * of the table: `visit` is called once for each. Returns how many. */
size_t config_fixed_changes(const struct config *from, const struct config *to,
	void (*visit)(const char *key, void *context), void *context);

/* Swap the values that a running hub can take over into the configuration in force; the others stay. */
void config_take_live(struct config *in_force, struct config *from);

/* The reference: every key, commented, with its default. An INI file that may be read again. 0 or -EIO. */
int config_print(FILE *out);

/* Visit every key with its present value as text, for people ("limits.message-bytes", "67108864", "bytes"). */
void config_each(const struct config *config,
	void (*visit)(const char *key, const char *value, const char *unit,
		enum config_origin origin, void *context),
	void *context);

#endif
