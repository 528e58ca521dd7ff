/*
 * What each operation of the ring may answer: the errnos of the man pages (socket, connect, accept,
 * recv, send, setsockopt, getsockopt, shutdown, close, poll, ioctl of section 2, tcp(7), and those that
 * io_uring_enter(2) gives any operation), by script_kind. 0 is a result of the man pages too: the end of a
 * stream for a receive, nothing taken for a send.
 */
#ifndef PEERHUB_TESTS_NTH_ERRNOS_H
#define PEERHUB_TESTS_NTH_ERRNOS_H

#include "tests/fake/ring_script.h"
#include "tests/nth/runner.h"

#define OPCODE_ENTER SCRIPT_KIND_COUNT /* io_uring_enter itself */
#define OPCODE_COUNT (SCRIPT_KIND_COUNT + 1)

extern const struct nth_op errnos_of[OPCODE_COUNT];

#endif
