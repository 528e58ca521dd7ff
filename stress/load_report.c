/* The live line and the report of the load subcommands; see load.h. */
#include "command.h"
#include "fault_ring.h"
#include "load.h"
#include "report.h"
#include "stop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_NS 200000000ull

/* ---- live line -------------------------------------------------------------------------- */

static bool has_terminal(void)
{
	return isatty(STDERR_FILENO) == 1;
}

void progress_end(void)
{
	if (has_terminal())
		fputs("\r\033[K", stderr);
}

static void progress(struct load *load, const char *what)
{
	static uint64_t shown_ns;
	struct audit_counts counts;
	uint64_t now = now_ns();

	if (!has_terminal() || now < shown_ns + PROGRESS_NS)
		return;
	shown_ns = now;
	audit_counts(load->audit, &counts);
	fprintf(stderr,
		"\r\033[K%6.1f s  %s: %s  live %llu  opened %llu  ended %llu  messages %llu  "
		"violations %llu",
		(double)(now - load->begin_ns) / 1e9, load->options.name, what,
		(unsigned long long)atomic_load(&load->live), (unsigned long long)counts.opened,
		(unsigned long long)counts.finals, (unsigned long long)counts.messages_received,
		(unsigned long long)counts.violations);
	fflush(stderr);
}

void load_wait(struct load *load, uint32_t ms, const char *what)
{
	uint64_t end_ns = now_ns() + ms * 1000000ull;

	do {
		audit_tick(load->audit);
		progress(load, what);
		load_sleep_us((ms < LOAD_TICK_MS ? ms : LOAD_TICK_MS) * 1000);
	} while (now_ns() < end_ns && !stop_requested());
}

/* ---- report ----------------------------------------------------------------------------- */

void load_figures_begin(struct load *load, struct figures *figures, const char *command, bool is_ok)
{
	figures_text(figures, "program", "program", "peerhub-stress");
	figures_text(figures, "subcommand", "subcommand", load->options.name);
	figures_text(figures, "command", "again", command);
	figures_count(figures, "seed", "seed", load->options.seed);
	figures_real(figures, "seconds", "seconds", (double)(now_ns() - load->begin_ns) / 1e9, "s");
	figures_flag(figures, "interrupted", "interrupted", stop_requested());
	figures_flag(figures, "ok", "nothing found", is_ok && load_is_ok(load));
	figures_text(figures, "tls", "tls", load->options.tls == 0 ? "mutual" : "none");
	figures_count(figures, "connections", "connections", load->options.connections);
	figures_count(figures, "shards", "shards of each hub", load->options.shards);
	figures_section(figures, "open", "opening");
	figures_count(figures, "opened", "opened", atomic_load(&load->opened));
	figures_count(
		figures, "failed", "failed before they were open", atomic_load(&load->failed));
	figures_latency(figures, "latency", "ph_open to on_open", &load->open_latency);
}

void load_figures_latency(struct load *load, struct figures *figures)
{
	const struct load_latency *graceful = &load->latency[PH_GRACEFUL];
	const struct load_latency *abort = &load->latency[PH_ABORT];

	figures_section(figures, "graceful", "graceful close, from the call");
	figures_latency(figures, "call", "ph_close itself", &graceful->call);
	figures_latency(
		figures, "goodbye_sent", "last goodbye byte with the kernel", &graceful->goodbye);
	figures_latency(figures, "goodbye_seen", "goodbye read by the far end", &graceful->seen);
	figures_latency(figures, "final", "last event at the caller", &graceful->final_here);
	figures_latency(figures, "final_far", "last event at the far end", &graceful->final_there);
	figures_section(figures, "abort", "abort, from the call");
	figures_latency(figures, "call", "ph_close itself", &abort->call);
	figures_latency(figures, "reset_seen", "reset seen by the far end", &abort->seen);
	figures_latency(figures, "final", "last event at the caller", &abort->final_here);
	figures_latency(figures, "final_far", "last event at the far end", &abort->final_there);
}

static void reasons_add(struct load *load, struct figures *figures, enum load_end end)
{
	static const char *const names[] = {
#define REASON_NAME(name, value, text) text,
		PH_REASONS(REASON_NAME)
#undef REASON_NAME
	};

	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t count = atomic_load(&load->reasons[end][i]);

		if (count > 0)
			figures_count(figures, names[i], names[i], count);
	}
}

static void faults_add(struct load *load, struct figures *figures)
{
	static const char *const op_names[FAULT_OP_COUNT] = {"ring_recv", "ring_send",
		"ring_socket", "ring_connect", "ring_accept", "ring_cancel", "ring_disconnect",
		"ring_option", "ring_name", "ring_unsent"};
	const struct fault_link_counts *counts = &load->link_counts;

	if (load->options.faults.count == 0)
		return;
	figures_section(figures, "faults", "faults that were made");
	if (faults_have_links(&load->options.faults)) {
		figures_count(
			figures, "relayed", "connections through the relay", counts->connections);
		figures_count(
			figures, "relay_refused", "that found no place there", counts->refused);
	}
	for (int kind = 0; kind < FAULT_KIND_COUNT; kind++)
		if (counts->hits[kind] > 0)
			figures_count(figures, fault_kind_name((enum fault_kind)kind),
				fault_kind_name((enum fault_kind)kind), counts->hits[kind]);
	for (int op = 0; op < FAULT_OP_COUNT; op++)
		if (fault_ring_count((enum fault_op)op) > 0)
			figures_count(figures, op_names[op], op_names[op],
				fault_ring_count((enum fault_op)op));
}

void load_figures_end(struct load *load, struct figures *figures)
{
	figures_section(figures, "ends_dialler", "why dialled ends ended");
	reasons_add(load, figures, LOAD_DIALLER);
	figures_section(figures, "ends_acceptor", "why accepted ends ended");
	reasons_add(load, figures, LOAD_ACCEPTOR);
	faults_add(load, figures);
}

static void audit_add(struct load *load, struct figures *figures)
{
	struct audit_counts counts;

	audit_counts(load->audit, &counts);
	figures_section(figures, "audit", "audit");
	figures_count(figures, "ends", "connection ends",
		counts.dialled + counts.accepted + counts.anonymous);
	figures_count(figures, "finals", "final events", counts.finals);
	figures_count(figures, "messages_sent", "messages sent", counts.messages_sent);
	figures_count(figures, "messages_received", "messages received, checked",
		counts.messages_received);
	figures_count(figures, "would_block", "sends that would block", counts.sends_would_block);
	figures_count(figures, "closes_won", "ph_close calls that won", counts.closes_won);
	figures_count(
		figures, "closes_lost", "ph_close calls that came second", counts.closes_lost);
	figures_count(
		figures, "upgrades", "graceful closes that an abort upgraded", counts.upgrades);
	figures_count(figures, "graceful_proved", "graceful ends proved complete",
		counts.graceful_proved);
	figures_count(figures, "unasked", "open ends that nobody had closed",
		atomic_load(&load->unasked));
	figures_count(figures, "violations", "violations", counts.violations);
	figures_section(figures, "hubs", "hubs");
	figures_count(figures, "closes_deadline", "closes that met their deadline",
		load->stats.closes_deadline);
	figures_count(figures, "close_resubmits", "closes that had to ask twice",
		load->stats.close_resubmits);
	figures_count(
		figures, "cq_overflows", "completion queue overflows", load->stats.cq_overflows);
	figures_count(figures, "receive_starved", "receives without a buffer",
		load->stats.receive_starved);
	figures_count(
		figures, "transport_errors", "transport errors", load->stats.transport_errors);
	figures_count(figures, "protocol_errors", "protocol errors", load->stats.protocol_errors);
	figures_count(
		figures, "loop_ns_max", "longest turn of a shard, ns", load->stats.loop_ns_max);
}

int load_report(struct load *load, struct figures *figures, bool is_ok)
{
	int status = 0;

	audit_add(load, figures);
	progress_end();
	if (!load->options.is_quiet)
		figures_table(figures, stdout);
	is_ok = is_ok && load_is_ok(load);
	if (!load->options.is_quiet || !is_ok)
		printf("%s\n", is_ok ? "OK" : "FAILED");
	if (fflush(stdout) != 0)
		status = -errno;
	if (load->options.json_path != NULL && status == 0) {
		status = figures_json(figures, load->options.json_path);
		if (status < 0)
			fprintf(stderr, "peerhub-stress: %s: %s\n", load->options.json_path,
				strerror(-status));
	}
	if (!is_ok)
		return EXIT_FOUND;
	if (atomic_load(&load->opened) == 0 && !stop_requested()) {
		fprintf(stderr, "peerhub-stress: no connection could be opened\n");
		return EXIT_FAILED;
	}
	return status < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}
