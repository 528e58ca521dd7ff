/*
 * What storm, churn and slow run on: two hubs of this process, an accepting and a dialling one (or a
 * peerhub-echo elsewhere and the dialling one), connections in numbered seats, the audit that
 * watches every id, the faults that were asked for, and a watchdog.
 *
 * A seat holds one connection, both its ends, and is empty again when both have had their final
 * event. Its lock is held for a few instructions, never around a ph_ call. Calls: any thread, except
 * where it says "main".
 */
#ifndef PEERHUB_STRESS_LOAD_H
#define PEERHUB_STRESS_LOAD_H

#include "audit.h"
#include "certs.h"
#include "fault.h"
#include "fault_link.h"
#include "figures.h"
#include "options.h"

#include "../bench/echo/trust.h"

#include <pthread.h>

#define LOAD_CONNECTIONS_MAX 100000u
#define LOAD_GROUPS_MAX 16u
#define LOAD_LISTENERS 8u /* addresses of the accepting hub: local ports last so much longer */
#define LOAD_LANES 8u /* threads that send */
#define LOAD_REASONS_MAX 48u
#define LOAD_PAYLOAD_MAX 65536u
#define LOAD_TICK_MS 20u

/* An end of a connection, and the hub it lives on. */
enum load_end {
	LOAD_DIALLER,
	LOAD_ACCEPTOR,
	LOAD_ENDS
};

struct load_options {
	/* What every subcommand takes (load_options_add). */
	uint64_t connections, groups, shards, slots, message_bytes, seed, patience_s;
	uint64_t tls; /* enum load_tls */
	uint64_t close_ms; /* deadline of a graceful close */
	uint64_t queue_bytes; /* send queue of a connection */
	struct faults faults;
	bool is_quiet; /* no table */
	bool is_remote;
	ph_address remote;
	const char *cert_path, *key_path, *ca_path, *json_path;
	/* What the subcommand says. */
	const char *name; /* "storm" */
	bool may_block; /* senders may wait for ever: peers that do not read */
};

struct seat {
	pthread_mutex_t lock; /* all below but the atomics */
	uint64_t serials[LOAD_ENDS]; /* of the audit; 0: none */
	uint32_t ends; /* that live */
	bool opened[LOAD_ENDS]; /* has been open in this life */
	bool was_asked; /* somebody of ours closed it in this life */
	bool is_spoiled; /* a fault was put on its way */
	uint64_t dial_ns, close_ns;
	enum ph_how how;
	uint32_t group;
	uint64_t number; /* of all connections dialled: chooses faults */
	_Atomic uint64_t received[LOAD_ENDS], received_bytes[LOAD_ENDS], sent[LOAD_ENDS];
	_Atomic uint64_t
		blocked_ns[LOAD_ENDS]; /* first -EAGAIN since the last accepted send; 0: none */
	_Atomic uint64_t read_limit; /* bytes the dialled end takes before it stops reading */
};

/* From the call that decided a close. */
struct load_latency {
	struct histogram call; /* how long ph_close took */
	struct histogram goodbye; /* … the goodbye is with the kernel, at the caller */
	struct histogram seen; /* … the far end knows: goodbye read, or reset */
	struct histogram final_here; /* … the last event at the caller */
	struct histogram final_there; /* … and at the far end */
};

struct load {
	struct load_options options;
	struct audit *audit;
	struct certs *certs; /* NULL without TLS, and when the far end is another's */
	struct trust *trust; /* of the files, when the far end is another's */
	struct load_hub {
		struct load *load;
		enum load_end end;
		struct ph_hub *hub; /* NULL: not started, or another's */
		_Atomic uint32_t clock_count;
		clockid_t clocks[PH_SHARDS_MAX]; /* CPU clocks of its shards' threads */
	} hubs[LOAD_ENDS];
	ph_address addresses[LOAD_LISTENERS];
	struct fault_link *link; /* NULL: no faults of the network */
	struct seat *seats; /* [options.connections] */
	_Atomic uint32_t *seat_of; /* [serial & mask] seat number + 1 */
	uint32_t serial_mask;
	_Atomic uint64_t number_last;
	_Atomic uint64_t live; /* seats that are not empty */
	_Atomic uint64_t open; /* ends open now */
	_Atomic uint64_t opened; /* connections whose dialled end got open */
	_Atomic uint64_t failed; /* … that never did */
	_Atomic uint64_t unasked; /* open ends that ended without a close of ours */
	_Atomic uint64_t suspects; /* ends that nothing explains, and the last of them */
	_Atomic uint64_t suspect_serial;
	_Atomic uint32_t suspect_reason;
	_Atomic uint64_t closing; /* seats that a close of ours has not yet emptied */
	_Atomic uint64_t emptied_ns; /* when the last seat became empty */
	_Atomic uint64_t reasons[LOAD_ENDS][LOAD_REASONS_MAX]; /* of ends that were open */
	_Atomic bool is_ending;
	struct histogram open_latency;
	struct load_latency latency[2]; /* [enum ph_how] */
	/* The watchdog. */
	pthread_t watch;
	bool has_watch;
	_Atomic uint64_t phase_end_ns; /* 0: none */
	const char *_Atomic phase;
	_Atomic bool watch_ends;
	/* Before anything began. */
	uint32_t descriptors;
	uint64_t begin_ns;
	struct ph_statistics stats; /* of both hubs, taken when all is closed */
	struct fault_link_counts link_counts;
};

/* ---- options: main ---- */
void load_options_init(struct load_options *load, const char *name, uint64_t connections);
void load_options_add(struct options *options, struct load_options *load);
extern const char load_usage_text[]; /* the common ones, for --help */
int load_options_check(
	const struct options *options, const struct load_options *load); /* or EXIT_USAGE */
/* The line that repeats a run, seed included. */
void load_command_text(
	const struct load_options *load, int argc, char **argv, char *text, size_t bytes);

/* ---- life: main ---- */
/* 0, or EXIT_FAILED with the reason on stderr. */
int load_create(const struct load_options *options, struct load **load);
/* Closes what is left, checks counters against events, stops the hubs, settles the audit, checks
 * descriptors. */
void load_end(struct load *load);
void load_destroy(struct load *load); /* NULL allowed */
/* Longer than limit_ms plus the patience in this phase is a hang: the hubs' state goes to stderr and
 * the process ends with EXIT_HANG. Static text. */
void load_phase(struct load *load, const char *phase, uint64_t limit_ms);
void load_violation(struct load *load, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- connections ---- */
bool load_seat_is_empty(struct seat *seat);
bool load_seat_is_open(
	struct load *load, struct seat *seat); /* both ends, as far as they are ours */
/* Dial for an empty seat; false: refused now (no slot, memory), try later. One thread per seat. */
bool load_open(struct load *load, uint32_t seat);
/* Open all empty seats of first..first+count-1, gently, until they are open or have failed three
 * times each, or until a stop is asked for. Main. Returns how many are open. */
uint32_t load_open_all(struct load *load, uint32_t first, uint32_t count);
/* ph_close at one end; what it answered (-ENOENT also when the seat has no such end). */
int load_close(struct load *load, uint32_t seat, enum load_end end, enum ph_how how);
int load_close_reason(struct load *load, uint32_t seat, enum load_end end, enum ph_how how,
	uint32_t reason, const char *text);
/* One message of options.message_bytes in a lane of the calling thread's own; what ph_send said. */
int load_send(struct load *load, uint32_t seat, enum load_end end, uint32_t lane);
/* Stop or go on reading. */
int load_pause(struct load *load, uint32_t seat, enum load_end end, bool is_paused);

/* ---- looking ---- */
void load_sleep_us(uint32_t us);
/* A moment of waiting on the main thread: settles the audit, shows the line. */
void load_wait(struct load *load, uint32_t ms, const char *what);
uint64_t load_cpu_ns(struct load *load, enum load_end end); /* of a hub's shards so far */
uint64_t process_cpu_ns(void);
uint64_t process_rss(void); /* bytes */
uint32_t process_descriptors(void);
uint64_t load_ended_by(struct load *load, enum load_end end, uint32_t reason); /* open ends */
void load_stats(struct load *load, enum load_end end, struct ph_statistics *stats);
/* After load_end: the first lines of a report, then those of closes, then why ends ended and which
 * faults were made; the audit's come with load_report. Main. */
void load_figures_begin(
	struct load *load, struct figures *figures, const char *command, bool is_ok);
void load_figures_latency(struct load *load, struct figures *figures);
void load_figures_end(struct load *load, struct figures *figures);
/* Table and, when asked for, JSON; the exit code. Main. */
int load_report(struct load *load, struct figures *figures, bool is_ok);
bool load_is_ok(struct load *load); /* no violation so far */
void progress_end(void); /* clears the live line, before other output */

#endif
