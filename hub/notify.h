/*
 * notify.h: what a service tells systemd, and what it is handed by it (sd_notify(3), sd_listen_fds(3)),
 * by hand: a datagram and two environment variables. Without systemd all of it does nothing. One thread.
 */
#ifndef PEERHUB_HUB_NOTIFY_H
#define PEERHUB_HUB_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STATUS=…", several lines at once. Nobody waits for an answer. */
void notify_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "RELOADING=1" with the time that Type=notify-reload asks for. */
void notify_reloading(void);

/* How often the watchdog wants to hear of us, half of its time; 0: there is none. */
uint64_t notify_watchdog_ms(void);

/* The one listening socket that was handed over, or -1. More than one: -EINVAL. The environment variables
 * are removed. First thing in main: before a descriptor of ours could have its number. */
int notify_listen_fd(void);

#endif
