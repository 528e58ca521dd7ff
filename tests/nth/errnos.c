/* The table of errnos; see errnos.h. */
#include "tests/nth/errnos.h"

#include <errno.h>

#define E(name)             \
	{                   \
		name, #name \
	}
#define END_OF_STREAM  \
	{              \
		0, "0" \
	}

static const struct nth_errno of_poll[] = {E(EBADF), E(EFAULT), E(EINTR), E(EINVAL), E(ENOMEM),
	E(ECANCELED), E(EAGAIN), E(EOPNOTSUPP)};

static const struct nth_errno of_accept[] = {E(EAGAIN), E(EBADF), E(ECONNABORTED), E(EFAULT),
	E(EINTR), E(EINVAL), E(EMFILE), E(ENFILE), E(ENOBUFS), E(ENOMEM), E(ENOTSOCK),
	E(EOPNOTSUPP), E(EPERM), E(EPROTO), E(ENETDOWN), E(ENOPROTOOPT), E(EHOSTDOWN), E(ENONET),
	E(EHOSTUNREACH), E(ENETUNREACH), E(ETIMEDOUT), E(ECANCELED)};

static const struct nth_errno of_socket[] = {E(EACCES), E(EAFNOSUPPORT), E(EINVAL), E(EMFILE),
	E(ENFILE), E(ENOBUFS), E(ENOMEM), E(EPROTONOSUPPORT), E(EPERM), E(ECANCELED), E(EINTR),
	E(EAGAIN)};

static const struct nth_errno of_setsockopt[] = {E(EBADF), E(EDOM), E(EFAULT), E(EINVAL),
	E(EISCONN), E(ENOPROTOOPT), E(ENOTSOCK), E(EACCES), E(EPERM), E(ENOMEM), E(ENOBUFS),
	E(EOPNOTSUPP), E(ECANCELED)};

static const struct nth_errno of_connect[] = {E(EACCES), E(EPERM), E(EADDRINUSE), E(EADDRNOTAVAIL),
	E(EAFNOSUPPORT), E(EAGAIN), E(EALREADY), E(EBADF), E(ECONNREFUSED), E(ECONNRESET),
	E(EFAULT), E(EINPROGRESS), E(EINTR), E(EISCONN), E(ENETUNREACH), E(EHOSTUNREACH),
	E(EHOSTDOWN), E(ENETDOWN), E(ENOTSOCK), E(EPROTOTYPE), E(ETIMEDOUT), E(ENOBUFS), E(ENOMEM),
	E(EINVAL), E(ECANCELED)};

static const struct nth_errno of_recv[] = {END_OF_STREAM, E(EAGAIN), E(EBADF), E(ECONNREFUSED),
	E(ECONNRESET), E(ECONNABORTED), E(EFAULT), E(EINTR), E(EINVAL), E(ENOMEM), E(ENOBUFS),
	E(ENOTCONN), E(ENOTSOCK), E(EPIPE), E(ETIMEDOUT), E(EHOSTUNREACH), E(ENETUNREACH),
	E(ENETDOWN), E(EPROTO), E(EIO), E(ECANCELED), E(EOPNOTSUPP)};

static const struct nth_errno of_send[] = {END_OF_STREAM, E(EACCES), E(EAGAIN), E(EALREADY),
	E(EBADF), E(ECONNRESET), E(EDESTADDRREQ), E(EFAULT), E(EINTR), E(EINVAL), E(EISCONN),
	E(EMSGSIZE), E(ENOBUFS), E(ENOMEM), E(ENOTCONN), E(ENOTSOCK), E(EOPNOTSUPP), E(EPIPE),
	E(ETIMEDOUT), E(EHOSTUNREACH), E(ENETUNREACH), E(ENETDOWN), E(EIO), E(ECANCELED)};

static const struct nth_errno of_getsockopt[] = {E(EBADF), E(EFAULT), E(EINVAL), E(ENOPROTOOPT),
	E(ENOTSOCK), E(ENOTCONN), E(EOPNOTSUPP), E(EACCES), E(ENOMEM), E(ENOBUFS), E(ECANCELED)};

static const struct nth_errno of_siocoutq[] = {E(EBADF), E(EFAULT), E(EINVAL), E(ENOTTY),
	E(ENOTSOCK), E(EOPNOTSUPP), E(ENOTCONN), E(ECANCELED)};

static const struct nth_errno of_cancel[] = {E(ENOENT), E(EALREADY), E(EINVAL)};

static const struct nth_errno of_disconnect[] = {E(EAFNOSUPPORT), E(EAGAIN), E(EALREADY), E(EBADF),
	E(EINPROGRESS), E(EINTR), E(EINVAL), E(EISCONN), E(ENOTCONN), E(ENOTSOCK), E(EOPNOTSUPP),
	E(EPERM), E(ENOMEM), E(ENOBUFS), E(EBUSY), E(ECANCELED)};

static const struct nth_errno of_shutdown[] = {E(EBADF), E(EINVAL), E(ENOTCONN), E(ENOTSOCK),
	E(ENOMEM), E(ENOBUFS), E(EOPNOTSUPP), E(ECANCELED)};

static const struct nth_errno of_close[] = {
	E(EBADF), E(EINTR), E(EIO), E(ENOSPC), E(EDQUOT), E(EINVAL), E(ENXIO), E(ECANCELED)};

static const struct nth_errno of_enter[] = {E(EBADF), E(EBADFD), E(EBADR), E(EFAULT), E(EINVAL),
	E(ENXIO), E(EOPNOTSUPP), E(ENOMEM), E(EEXIST), E(EOWNERDEAD)};

#define OPCODE(text, list)                                   \
	{                                                    \
		text, list, sizeof(list) / sizeof((list)[0]) \
	}

const struct nth_op errnos_of[OPCODE_COUNT] = {
	[SCRIPT_POLL] = OPCODE("poll", of_poll),
	[SCRIPT_ACCEPT] = OPCODE("accept", of_accept),
	[SCRIPT_SOCKET] = OPCODE("socket", of_socket),
	[SCRIPT_OPTION] = OPCODE("setsockopt", of_setsockopt),
	[SCRIPT_CONNECT] = OPCODE("connect", of_connect),
	[SCRIPT_RECV] = OPCODE("recv", of_recv),
	[SCRIPT_SEND] = OPCODE("send", of_send),
	[SCRIPT_NAME] = OPCODE("getsockopt", of_getsockopt),
	[SCRIPT_UNSENT] = OPCODE("siocoutq", of_siocoutq),
	[SCRIPT_CANCEL] = OPCODE("cancel", of_cancel),
	[SCRIPT_DISCONNECT] = OPCODE("disconnect", of_disconnect),
	[SCRIPT_SHUTDOWN] = OPCODE("shutdown", of_shutdown),
	[SCRIPT_CLOSE] = OPCODE("close", of_close),
	[OPCODE_ENTER] = OPCODE("enter", of_enter),
};
