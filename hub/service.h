/*
 * service.h: what a configuration file adds around serving groups: the library's options, the log, the
 * memory of ended connections, the administrator's socket, metrics, and what systemd hears. The main thread.
 */
#ifndef PEERHUB_HUB_SERVICE_H
#define PEERHUB_HUB_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "peerhub.h"

/* Keys of the command line ("SECTION.KEY=VALUE"); borrowed until service_end. Before service_begin. */
void service_override(const char *const *texts, size_t count);

/*
 * Read the file and hand its options to the library, before PeerGroupStartup. NULL: no file, only the
 * inherited socket is taken. `inherited` is what notify_listen_fd said. 0, or EXIT_USAGE (the file is wrong) or EXIT_FAILED (said).
 */
int service_begin(const char *config_path, int inherited);
/* The configuration in force; all defaults without a file. Texts of keys that a reload does not take over
 * last until service_end. */
const struct config *service_config(void);

/*
 * Confine this process as the configuration says (confine.h), before the first thread.
 *
 * receive, listen  as the command line has them; NULL: the configuration's
 * Returns 0 or -EIO (said): a directory is missing that could not be made.
 */
int service_confine(const char *receive, const char *listen);
/* The hub serves: start what serves the administrator. 0 or -EIO (said). */
int service_start(struct ph_hub *hub, const char *identity);
/* All groups are ready. */
void service_ready(uint64_t group_count);
/* Their number has changed. */
void service_groups(uint64_t group_count);
/* Before the hub ends: who asks from now on is refused. */
void service_stop(void);
void service_end(void);

/*
 * Take signals and wishes; tell the watchdog. Returns when to come back.
 *
 * on_reload  called with the new configuration when it is good and in force
 */
uint64_t service_step(uint64_t now_ms,
	void (*on_reload)(const struct config *config, void *context), void *context);
/* Told to end, by a signal or an administrator: with a configuration the hub drains first, and the second time
 * it ends at once. */
void service_end_wish(void);
bool service_is_stopping(void); /* it is time to end */
/* Descriptors to wait for: up to SERVICE_FDS_MAX, -1 where there is none. */
#define SERVICE_FDS_MAX 2u
void service_fds(int fds[SERVICE_FDS_MAX]);

#endif
