/*
 * Message layouts of the peer protocol (MS-PPGRH 2.2; docs/wire.md). Integers are big-endian. Parsers
 * take one complete message, check every offset and size before use, and borrow strings from it.
 * Writers fill a caller's buffer. Pure functions, any thread, no allocation.
 */
#ifndef PEERHUB_ENGINE_WIRE_H
#define PEERHUB_ENGINE_WIRE_H

#include "peerhub.h"

#include <sys/types.h>

#define WIRE_HEADER_BYTES 8u
#define WIRE_PT2PT_BYTES 28u /* header, data offset, reserved, type */
#define WIRE_CONTROL_BYTES_MAX \
	4096u /* every message but PT2PT and skipped ones: names and addresses */
#define WIRE_NOTICE_BYTES 18u /* before its text */
#define WIRE_RESUME_BYTES 76u /* header, lifetime, id, secret */
#define WIRE_SKIP_BYTES_MAX 65536u /* an unknown message in 0x40..0x4F */

enum wire_type {
	WIRE_AUTH_INFO = 0x01,
	WIRE_CONNECT = 0x02,
	WIRE_WELCOME = 0x03,
	WIRE_REFUSE = 0x04,
	WIRE_DISCONNECT = 0x05,
	WIRE_PT2PT = 0x0D,
	WIRE_NOTICE = 0x40,
	WIRE_RESUME = 0x41,
};

enum wire_disconnect {
	WIRE_DISCONNECT_LEAVING = 1,
	WIRE_DISCONNECT_LEAST_USEFUL = 2,
	WIRE_DISCONNECT_APPLICATION = 3,
};

struct wire_header {
	uint32_t bytes; /* whole message, header included */
	uint8_t type;
};

struct wire_auth_info {
	uint8_t kind; /* 1 neighbor, 2 direct */
	const char *graph; /* NUL-terminated UTF-8, non-empty, at most PH_NAME_BYTES_MAX with NUL */
	const char *source;
	const char *destination; /* NULL: any (offset == message size) */
};

struct wire_connect {
	uint8_t flags; /* 0x04 direct, 0x08 update, 0x01 wants neighbors */
	uint64_t node_id;
	uint32_t address_count;
	ph_address addresses[PH_ADDRESSES_MAX];
	const char *friendly_name; /* NULL: none */
};
#define WIRE_CONNECT_DIRECT 0x04u

struct wire_welcome {
	uint64_t node_id;
	uint64_t peer_time;
	uint32_t address_count;
	ph_address addresses[PH_ADDRESSES_MAX];
	const char *peer_id;
	const char *friendly_name; /* NULL: none */
};

struct wire_refuse {
	uint8_t code;
};
struct wire_disconnect_message {
	uint8_t reason;
};

struct wire_notice {
	uint32_t code;
	uint32_t retry_after_ms;
	uint32_t text_bytes; /* at most PH_TEXT_BYTES_MAX */
	const char *text; /* UTF-8, not terminated */
};

struct wire_resume {
	uint32_t lifetime_s; /* 1..86,400 */
	uint8_t id[32], secret[32];
};

struct wire_pt2pt {
	uint8_t type[16];
	const uint8_t *data;
	uint32_t bytes;
};

extern const uint8_t wire_ping_type[16];

/* First 8 bytes of a message. 0; -EMSGSIZE (under 8, or over the limit of its type: PT2PT
 * message_bytes_max + 28, control 4096, 0x40..0x4F 64 KiB); -EPROTO (version, reserved field);
 * -ENOTSUP (unknown type outside 0x40..0x4F). An unknown type inside that range is 0. */
int wire_header_parse(const uint8_t data[WIRE_HEADER_BYTES], uint32_t message_bytes_max,
	struct wire_header *header);

/* All: 0 or -EPROTO. `bytes` is header.bytes. */
int wire_auth_info_parse(const uint8_t *message, size_t bytes, struct wire_auth_info *out);
int wire_connect_parse(const uint8_t *message, size_t bytes, struct wire_connect *out);
int wire_welcome_parse(const uint8_t *message, size_t bytes, struct wire_welcome *out);
int wire_refuse_parse(const uint8_t *message, size_t bytes, struct wire_refuse *out);
int wire_disconnect_parse(
	const uint8_t *message, size_t bytes, struct wire_disconnect_message *out);
int wire_notice_parse(const uint8_t *message, size_t bytes, struct wire_notice *out);
int wire_resume_parse(const uint8_t *message, size_t bytes, struct wire_resume *out);
int wire_pt2pt_parse(const uint8_t *message, size_t bytes, struct wire_pt2pt *out);

/* All: bytes written, or -ENOSPC (capacity), -EINVAL (a field that the parser would refuse: a name
 * too long, empty or not UTF-8, too many addresses, a code out of range). A notice's text is the
 * application's: it is cut before its first byte that is not UTF-8. */
ssize_t wire_auth_info_write(uint8_t *out, size_t capacity, const struct wire_auth_info *message);
ssize_t wire_connect_write(uint8_t *out, size_t capacity, const struct wire_connect *message);
ssize_t wire_welcome_write(uint8_t *out, size_t capacity, const struct wire_welcome *message);
ssize_t wire_refuse_write(uint8_t *out, size_t capacity, uint8_t code);
ssize_t wire_disconnect_write(uint8_t *out, size_t capacity, uint8_t reason);
ssize_t wire_notice_write(uint8_t *out, size_t capacity, const struct wire_notice *notice);
ssize_t wire_resume_write(uint8_t *out, size_t capacity, const struct wire_resume *resume);
/* The 28 bytes before a payload of `payload_bytes`. */
void wire_pt2pt_head_write(
	uint8_t out[WIRE_PT2PT_BYTES], const uint8_t type[16], uint32_t payload_bytes);

#endif
