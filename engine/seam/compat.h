/*
 * Numbers of io_uring that are newer than liburing 2.3's headers (include/uapi/linux/io_uring.h of
 * the kernel). Used only after ring_probe has seen them work.
 */
#ifndef PEERHUB_ENGINE_SEAM_COMPAT_H
#define PEERHUB_ENGINE_SEAM_COMPAT_H

#include <liburing.h>

#define COMPAT_OP_BIND 56u /* 6.11 */
#define COMPAT_SOCKET_OP_SIOCOUTQ 1u /* 6.5 */
#define COMPAT_SOCKET_OP_GETSOCKOPT 2u /* 6.7 */
#define COMPAT_SOCKET_OP_SETSOCKOPT 3u /* 6.7 */
#define COMPAT_SO_PEERNAME 28 /* asm-generic/socket.h */

/* IORING_OP_URING_CMD: cmd_op shares its place with `off`, level and optname with `addr`, optlen
 * with file_index, optval with addr3. */
static inline void compat_prep_socket_cmd(struct io_uring_sqe *sqe, int file, unsigned op,
	int level, int name, void *value, unsigned value_bytes)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, file, NULL, 0, 0);
	sqe->off = op;
	sqe->addr = (uint64_t)(uint32_t)level | ((uint64_t)(uint32_t)name << 32);
	sqe->file_index = value_bytes;
	sqe->addr3 = (uint64_t)(uintptr_t)value;
}

#endif
