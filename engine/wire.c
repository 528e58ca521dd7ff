/*
 * Message layouts of the peer protocol; see wire.h.
 *
 * Parsers judge bytes of strangers. Each reads the fixed part only after its size was checked, and
 * follows an offset only after it was compared with the message's end. A field that our own writer
 * could not have produced (a reserved byte set, strings that overlap the fixed part or each other,
 * an address of another family) is -EPROTO. Two things are left open on purpose: unknown flag bits
 * of CONNECT are ignored, as MS-PPGRH 2.2.2.2 demands, and bytes that no field points to are allowed,
 * for a later version may put something there.
 */
#include "engine/wire.h"

#include "engine/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define WIRE_VERSION 0x10u
#define WIRE_FAMILY_IN6 0x0017u /* AF_INET6 of Windows; ours has another number */
#define WIRE_ADDRESS_BYTES 20u
#define WIRE_AUTH_INFO_BYTES 0x10u
#define WIRE_CONNECT_BYTES 0x18u
#define WIRE_WELCOME_BYTES 0x20u
#define WIRE_REFUSE_BYTES 0x0Cu
#define WIRE_DISCONNECT_BYTES 0x0Cu
#define WIRE_RESUME_LIFETIME_MAX_S 86400u
#define WIRE_CONNECT_UPDATE 0x08u
#define WIRE_CONNECT_FLAGS 0x0Du
#define WIRE_REFUSE_CODE_MAX 4u

static_assert(WIRE_WELCOME_BYTES + PH_ADDRESSES_MAX * WIRE_ADDRESS_BYTES + 2 * PH_NAME_BYTES_MAX <=
		WIRE_CONTROL_BYTES_MAX,
	"the longest WELCOME fits");
static_assert(WIRE_AUTH_INFO_BYTES + 3 * PH_NAME_BYTES_MAX <= WIRE_CONTROL_BYTES_MAX,
	"the longest AUTH_INFO fits");

const uint8_t wire_ping_type[16] = {0x0c, 0xcb, 0xb0, 0xd2, 0xbe, 0x41, 0x4b, 0xd6, 0x91, 0x4b,
	0x05, 0x8e, 0xc5, 0xdc, 0xce, 0x64};

/* ---- integers and text ------------------------------------------------------------------ */

static uint16_t get_u16(const uint8_t *in)
{
	return (uint16_t)(in[0] << 8 | in[1]);
}

static uint32_t get_u32(const uint8_t *in)
{
	return (uint32_t)get_u16(in) << 16 | get_u16(in + 2);
}

static uint64_t get_u64(const uint8_t *in)
{
	return (uint64_t)get_u32(in) << 32 | get_u32(in + 4);
}

static void put_u16(uint8_t *out, uint32_t value)
{
	assert(value <= UINT16_MAX);
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
}

static void put_u32(uint8_t *out, uint32_t value)
{
	put_u16(out, value >> 16);
	put_u16(out + 2, value & UINT16_MAX);
}

static void put_u64(uint8_t *out, uint64_t value)
{
	put_u32(out, (uint32_t)(value >> 32));
	put_u32(out + 4, (uint32_t)value);
}

/*
 * Bytes of the UTF-8 character at text, 0 if there is none (RFC 3629 section 4: no overlong forms,
 * no surrogates, nothing above U+10FFFF). U+0000 counts as none: it would cut C strings.
 */
static size_t utf8_char_bytes(const uint8_t *text, size_t bytes)
{
	uint8_t first = text[0], low = 0x80, high = 0xBF;
	size_t count;

	if (first >= 0x01 && first <= 0x7F)
		return 1;
	if (first >= 0xC2 && first <= 0xDF)
		count = 2;
	else if (first >= 0xE0 && first <= 0xEF)
		count = 3;
	else if (first >= 0xF0 && first <= 0xF4)
		count = 4;
	else
		return 0;
	if (bytes < count)
		return 0;
	if (first == 0xE0)
		low = 0xA0;
	else if (first == 0xED)
		high = 0x9F;
	else if (first == 0xF0)
		low = 0x90;
	else if (first == 0xF4)
		high = 0x8F;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t index = 2; index < count; index++)
		if ((text[index] & 0xC0) != 0x80)
			return 0;
	return count;
}

/* Bytes of the longest valid beginning. */
static size_t utf8_prefix_bytes(const uint8_t *text, size_t bytes)
{
	size_t done = 0, step;

	while (done < bytes && (step = utf8_char_bytes(text + done, bytes - done)) > 0)
		done += step;
	return done;
}

/* ---- parsing ---------------------------------------------------------------------------- */

static uint64_t limit_of_type(uint8_t type, uint32_t message_bytes_max)
{
	if (type == WIRE_PT2PT)
		return (uint64_t)message_bytes_max + WIRE_PT2PT_BYTES;
	if ((type >= WIRE_AUTH_INFO && type <= WIRE_DISCONNECT) || type == WIRE_RESUME)
		return WIRE_CONTROL_BYTES_MAX;
	if ((type & 0xF0) == 0x40)
		return WIRE_SKIP_BYTES_MAX;
	return 0;
}

int wire_header_parse(const uint8_t data[WIRE_HEADER_BYTES], uint32_t message_bytes_max,
	struct wire_header *header)
{
	uint32_t bytes = get_u32(data);
	uint64_t limit;

	if (bytes < WIRE_HEADER_BYTES)
		return -EMSGSIZE;
	if (data[4] != WIRE_VERSION || get_u16(data + 6) != 0)
		return -EPROTO;
	limit = limit_of_type(data[5], message_bytes_max);
	if (limit == 0)
		return -ENOTSUP;
	if (bytes > limit)
		return -EMSGSIZE;
	header->bytes = bytes;
	header->type = data[5];
	return 0;
}

/* The header says what the caller says, and the fixed part is there. */
static bool has_fixed_part(
	const uint8_t *message, size_t bytes, enum wire_type type, size_t bytes_min)
{
	return bytes >= bytes_min && get_u32(message) == bytes && message[4] == WIRE_VERSION &&
		message[5] == type && get_u16(message + 6) == 0;
}

/*
 * A string that begins at *cursor or later and ends, with its NUL, inside the message; *cursor moves
 * behind it. NULL if there is no such string.
 */
static const char *get_string(const uint8_t *message, size_t bytes, size_t offset, size_t *cursor)
{
	const uint8_t *text, *end;
	size_t length;

	if (offset < *cursor || offset >= bytes)
		return NULL;
	text = message + offset;
	end = memchr(text, 0, bytes - offset);
	if (end == NULL)
		return NULL;
	length = (size_t)(end - text);
	if (length >= PH_NAME_BYTES_MAX || utf8_prefix_bytes(text, length) != length)
		return NULL;
	*cursor = offset + length + 1;
	return (const char *)text;
}

/* The same, not empty: names of groups and identities. */
static const char *get_name(const uint8_t *message, size_t bytes, size_t offset, size_t *cursor)
{
	const char *name = get_string(message, bytes, offset, cursor);

	return name != NULL && name[0] != 0 ? name : NULL;
}

/* A friendly name at the end; an offset equal to the message's size means none. */
static int get_friendly_name(const uint8_t *message, size_t bytes, size_t offset, size_t *cursor,
	const char **friendly_name)
{
	*friendly_name = NULL;
	if (offset == bytes)
		return 0;
	*friendly_name = get_string(message, bytes, offset, cursor);
	return *friendly_name != NULL ? 0 : -EPROTO;
}

static int get_address(const uint8_t *in, ph_address *address)
{
	if (get_u16(in) != WIRE_FAMILY_IN6)
		return -EPROTO;
	*address = (ph_address){.sin6_family = AF_INET6};
	memcpy(&address->sin6_port, in + 2, 2);
	memcpy(&address->sin6_addr, in + 4, 16);
	return 0;
}

/*
 * `count` addresses from *cursor on; *cursor moves behind them. Without any, the offset may be 0 (as
 * in WELCOME and REFUSE) or anywhere behind the fixed part, the message's end included (as in
 * CONNECT and DISCONNECT). `addresses` may be NULL: they are only checked.
 */
static int get_addresses(const uint8_t *message, size_t bytes, uint32_t count, size_t offset,
	size_t *cursor, ph_address *addresses)
{
	ph_address ignored;

	if (count == 0)
		return offset == 0 || (offset >= *cursor && offset <= bytes) ? 0 : -EPROTO;
	if (count > PH_ADDRESSES_MAX || offset < *cursor || offset > bytes ||
		count * WIRE_ADDRESS_BYTES > bytes - offset)
		return -EPROTO;
	for (uint32_t index = 0; index < count; index++) {
		ph_address *address = addresses != NULL ? &addresses[index] : &ignored;

		if (get_address(message + offset + index * WIRE_ADDRESS_BYTES, address) < 0)
			return -EPROTO;
	}
	*cursor = offset + count * WIRE_ADDRESS_BYTES;
	return 0;
}

int wire_auth_info_parse(const uint8_t *message, size_t bytes, struct wire_auth_info *out)
{
	size_t cursor = WIRE_AUTH_INFO_BYTES, offset;

	*out = (struct wire_auth_info){0};
	if (!has_fixed_part(message, bytes, WIRE_AUTH_INFO, WIRE_AUTH_INFO_BYTES))
		return -EPROTO;
	out->kind = message[8];
	if ((out->kind != PH_KIND_NEIGHBOR && out->kind != PH_KIND_DIRECT) || message[9] != 0)
		return -EPROTO;
	out->graph = get_name(message, bytes, get_u16(message + 10), &cursor);
	if (out->graph == NULL)
		return -EPROTO;
	out->source = get_name(message, bytes, get_u16(message + 12), &cursor);
	if (out->source == NULL)
		return -EPROTO;
	offset = get_u16(message + 14);
	if (offset == bytes)
		return 0;
	out->destination = get_name(message, bytes, offset, &cursor);
	return out->destination != NULL ? 0 : -EPROTO;
}

int wire_connect_parse(const uint8_t *message, size_t bytes, struct wire_connect *out)
{
	size_t cursor = WIRE_CONNECT_BYTES;

	*out = (struct wire_connect){0};
	if (!has_fixed_part(message, bytes, WIRE_CONNECT, WIRE_CONNECT_BYTES))
		return -EPROTO;
	out->flags = message[8] & WIRE_CONNECT_FLAGS;
	out->address_count = message[9];
	out->node_id = get_u64(message + 16);
	if (get_u16(message + 14) != 0)
		return -EPROTO;
	if ((out->flags & WIRE_CONNECT_UPDATE) != 0 && out->address_count == 0)
		return -EPROTO;
	if (get_addresses(message, bytes, out->address_count, get_u16(message + 10), &cursor,
		    out->addresses) < 0)
		return -EPROTO;
	return get_friendly_name(
		message, bytes, get_u16(message + 12), &cursor, &out->friendly_name);
}

int wire_welcome_parse(const uint8_t *message, size_t bytes, struct wire_welcome *out)
{
	size_t cursor = WIRE_WELCOME_BYTES;

	*out = (struct wire_welcome){0};
	if (!has_fixed_part(message, bytes, WIRE_WELCOME, WIRE_WELCOME_BYTES))
		return -EPROTO;
	out->node_id = get_u64(message + 8);
	out->peer_time = get_u64(message + 16);
	out->address_count = message[24];
	if (message[25] != 0)
		return -EPROTO;
	if (get_addresses(message, bytes, out->address_count, get_u16(message + 26), &cursor,
		    out->addresses) < 0)
		return -EPROTO;
	out->peer_id = get_name(message, bytes, get_u16(message + 28), &cursor);
	if (out->peer_id == NULL)
		return -EPROTO;
	return get_friendly_name(
		message, bytes, get_u16(message + 30), &cursor, &out->friendly_name);
}

int wire_refuse_parse(const uint8_t *message, size_t bytes, struct wire_refuse *out)
{
	size_t cursor = WIRE_REFUSE_BYTES;

	*out = (struct wire_refuse){0};
	if (!has_fixed_part(message, bytes, WIRE_REFUSE, WIRE_REFUSE_BYTES))
		return -EPROTO;
	out->code = message[8];
	if (out->code < 1 || out->code > WIRE_REFUSE_CODE_MAX)
		return -EPROTO;
	return get_addresses(message, bytes, message[9], get_u16(message + 10), &cursor, NULL);
}

int wire_disconnect_parse(const uint8_t *message, size_t bytes, struct wire_disconnect_message *out)
{
	size_t cursor = WIRE_DISCONNECT_BYTES;

	*out = (struct wire_disconnect_message){0};
	if (!has_fixed_part(message, bytes, WIRE_DISCONNECT, WIRE_DISCONNECT_BYTES))
		return -EPROTO;
	out->reason = message[8];
	if (out->reason < WIRE_DISCONNECT_LEAVING || out->reason > WIRE_DISCONNECT_APPLICATION)
		return -EPROTO;
	return get_addresses(message, bytes, message[9], get_u16(message + 10), &cursor, NULL);
}

int wire_notice_parse(const uint8_t *message, size_t bytes, struct wire_notice *out)
{
	*out = (struct wire_notice){0};
	if (!has_fixed_part(message, bytes, WIRE_NOTICE, WIRE_NOTICE_BYTES))
		return -EPROTO;
	out->code = get_u32(message + 8);
	out->retry_after_ms = get_u32(message + 12);
	out->text_bytes = get_u16(message + 16);
	out->text = (const char *)message + WIRE_NOTICE_BYTES;
	if (out->text_bytes > PH_TEXT_BYTES_MAX || out->text_bytes != bytes - WIRE_NOTICE_BYTES)
		return -EPROTO;
	if (utf8_prefix_bytes(message + WIRE_NOTICE_BYTES, out->text_bytes) != out->text_bytes)
		return -EPROTO;
	return 0;
}

int wire_resume_parse(const uint8_t *message, size_t bytes, struct wire_resume *out)
{
	*out = (struct wire_resume){0};
	if (bytes != WIRE_RESUME_BYTES ||
		!has_fixed_part(message, bytes, WIRE_RESUME, WIRE_RESUME_BYTES))
		return -EPROTO;
	out->lifetime_s = get_u32(message + 8);
	if (out->lifetime_s == 0 || out->lifetime_s > WIRE_RESUME_LIFETIME_MAX_S)
		return -EPROTO;
	memcpy(out->id, message + 12, sizeof(out->id));
	memcpy(out->secret, message + 44, sizeof(out->secret));
	return 0;
}

int wire_pt2pt_parse(const uint8_t *message, size_t bytes, struct wire_pt2pt *out)
{
	*out = (struct wire_pt2pt){0};
	if (bytes > UINT32_MAX || !has_fixed_part(message, bytes, WIRE_PT2PT, WIRE_PT2PT_BYTES))
		return -EPROTO;
	if (get_u16(message + 8) != WIRE_PT2PT_BYTES || get_u16(message + 10) != 0)
		return -EPROTO;
	memcpy(out->type, message + 12, sizeof(out->type));
	out->data = message + WIRE_PT2PT_BYTES;
	out->bytes = (uint32_t)(bytes - WIRE_PT2PT_BYTES);
	return 0;
}

/* ---- writing ---------------------------------------------------------------------------- */

/* Bytes with NUL; 0 if our own parser would refuse it. */
static size_t string_bytes(const char *text)
{
	size_t length = strnlen(text, PH_NAME_BYTES_MAX);

	if (length >= PH_NAME_BYTES_MAX ||
		utf8_prefix_bytes((const uint8_t *)text, length) != length)
		return 0;
	return length + 1;
}

static size_t name_bytes(const char *name)
{
	return name != NULL && name[0] != 0 ? string_bytes(name) : 0;
}

/* Bytes of the optional friendly name; -1 if it cannot be written. */
static ssize_t friendly_name_bytes(const char *friendly_name)
{
	size_t bytes;

	if (friendly_name == NULL)
		return 0;
	bytes = string_bytes(friendly_name);
	return bytes > 0 ? (ssize_t)bytes : -1;
}

static bool are_addresses_writable(const ph_address *addresses, uint32_t count)
{
	if (count > PH_ADDRESSES_MAX)
		return false;
	for (uint32_t index = 0; index < count; index++)
		if (addresses[index].sin6_family != AF_INET6)
			return false;
	return true;
}

static void put_header(uint8_t *out, size_t bytes, enum wire_type type)
{
	put_u32(out, (uint32_t)bytes);
	out[4] = WIRE_VERSION;
	out[5] = type;
	put_u16(out + 6, 0);
}

static void put_addresses(uint8_t *out, const ph_address *addresses, uint32_t count)
{
	for (uint32_t index = 0; index < count; index++) {
		put_u16(out, WIRE_FAMILY_IN6);
		memcpy(out + 2, &addresses[index].sin6_port, 2);
		memcpy(out + 4, &addresses[index].sin6_addr, 16);
		out += WIRE_ADDRESS_BYTES;
	}
}

ssize_t wire_auth_info_write(uint8_t *out, size_t capacity, const struct wire_auth_info *message)
{
	size_t graph = name_bytes(message->graph), source = name_bytes(message->source);
	size_t destination = 0, at, bytes;

	if (graph == 0 || source == 0)
		return -EINVAL;
	if (message->kind != PH_KIND_NEIGHBOR && message->kind != PH_KIND_DIRECT)
		return -EINVAL;
	if (message->destination != NULL) {
		destination = name_bytes(message->destination);
		if (destination == 0)
			return -EINVAL;
	}
	bytes = WIRE_AUTH_INFO_BYTES + graph + source + destination;
	if (bytes > capacity)
		return -ENOSPC;
	put_header(out, bytes, WIRE_AUTH_INFO);
	out[8] = message->kind;
	out[9] = 0;
	at = WIRE_AUTH_INFO_BYTES;
	put_u16(out + 10, (uint32_t)at);
	memcpy(out + at, message->graph, graph);
	at += graph;
	put_u16(out + 12, (uint32_t)at);
	memcpy(out + at, message->source, source);
	at += source;
	put_u16(out + 14, (uint32_t)at);
	if (destination > 0)
		memcpy(out + at, message->destination, destination);
	return (ssize_t)bytes;
}

ssize_t wire_connect_write(uint8_t *out, size_t capacity, const struct wire_connect *message)
{
	ssize_t name = friendly_name_bytes(message->friendly_name);
	size_t at, bytes;

	if (name < 0 || !are_addresses_writable(message->addresses, message->address_count))
		return -EINVAL;
	if ((message->flags & ~WIRE_CONNECT_FLAGS) != 0)
		return -EINVAL;
	if ((message->flags & WIRE_CONNECT_UPDATE) != 0 && message->address_count == 0)
		return -EINVAL;
	at = WIRE_CONNECT_BYTES + message->address_count * WIRE_ADDRESS_BYTES;
	bytes = at + (size_t)name;
	if (bytes > capacity)
		return -ENOSPC;
	put_header(out, bytes, WIRE_CONNECT);
	out[8] = message->flags;
	out[9] = (uint8_t)message->address_count;
	put_u16(out + 10, WIRE_CONNECT_BYTES);
	put_u16(out + 12, (uint32_t)at);
	put_u16(out + 14, 0);
	put_u64(out + 16, message->node_id);
	put_addresses(out + WIRE_CONNECT_BYTES, message->addresses, message->address_count);
	if (name > 0)
		memcpy(out + at, message->friendly_name, (size_t)name);
	return (ssize_t)bytes;
}

ssize_t wire_welcome_write(uint8_t *out, size_t capacity, const struct wire_welcome *message)
{
	size_t peer_id = name_bytes(message->peer_id), at, bytes;
	ssize_t name = friendly_name_bytes(message->friendly_name);

	if (peer_id == 0 || name < 0)
		return -EINVAL;
	if (!are_addresses_writable(message->addresses, message->address_count))
		return -EINVAL;
	at = WIRE_WELCOME_BYTES + message->address_count * WIRE_ADDRESS_BYTES;
	bytes = at + peer_id + (size_t)name;
	if (bytes > capacity)
		return -ENOSPC;
	put_header(out, bytes, WIRE_WELCOME);
	put_u64(out + 8, message->node_id);
	put_u64(out + 16, message->peer_time);
	out[24] = (uint8_t)message->address_count;
	out[25] = 0;
	put_u16(out + 26, message->address_count > 0 ? WIRE_WELCOME_BYTES : 0);
	put_u16(out + 28, (uint32_t)at);
	put_u16(out + 30, (uint32_t)(at + peer_id));
	put_addresses(out + WIRE_WELCOME_BYTES, message->addresses, message->address_count);
	memcpy(out + at, message->peer_id, peer_id);
	if (name > 0)
		memcpy(out + at + peer_id, message->friendly_name, (size_t)name);
	return (ssize_t)bytes;
}

ssize_t wire_refuse_write(uint8_t *out, size_t capacity, uint8_t code)
{
	if (code < 1 || code > WIRE_REFUSE_CODE_MAX)
		return -EINVAL;
	if (capacity < WIRE_REFUSE_BYTES)
		return -ENOSPC;
	put_header(out, WIRE_REFUSE_BYTES, WIRE_REFUSE);
	out[8] = code;
	out[9] = 0;
	put_u16(out + 10, 0);
	return WIRE_REFUSE_BYTES;
}

ssize_t wire_disconnect_write(uint8_t *out, size_t capacity, uint8_t reason)
{
	if (reason < WIRE_DISCONNECT_LEAVING || reason > WIRE_DISCONNECT_APPLICATION)
		return -EINVAL;
	if (capacity < WIRE_DISCONNECT_BYTES)
		return -ENOSPC;
	put_header(out, WIRE_DISCONNECT_BYTES, WIRE_DISCONNECT);
	out[8] = reason;
	out[9] = 0;
	put_u16(out + 10, WIRE_DISCONNECT_BYTES);
	return WIRE_DISCONNECT_BYTES;
}

ssize_t wire_notice_write(uint8_t *out, size_t capacity, const struct wire_notice *notice)
{
	size_t text;

	if (notice->text_bytes > PH_TEXT_BYTES_MAX)
		return -EINVAL;
	text = utf8_prefix_bytes((const uint8_t *)notice->text, notice->text_bytes);
	if (capacity < WIRE_NOTICE_BYTES + text)
		return -ENOSPC;
	put_header(out, WIRE_NOTICE_BYTES + text, WIRE_NOTICE);
	put_u32(out + 8, notice->code);
	put_u32(out + 12, notice->retry_after_ms);
	put_u16(out + 16, (uint32_t)text);
	if (text > 0)
		memcpy(out + WIRE_NOTICE_BYTES, notice->text, text);
	return (ssize_t)(WIRE_NOTICE_BYTES + text);
}

ssize_t wire_resume_write(uint8_t *out, size_t capacity, const struct wire_resume *resume)
{
	if (resume->lifetime_s == 0 || resume->lifetime_s > WIRE_RESUME_LIFETIME_MAX_S)
		return -EINVAL;
	if (capacity < WIRE_RESUME_BYTES)
		return -ENOSPC;
	put_header(out, WIRE_RESUME_BYTES, WIRE_RESUME);
	put_u32(out + 8, resume->lifetime_s);
	memcpy(out + 12, resume->id, sizeof(resume->id));
	memcpy(out + 44, resume->secret, sizeof(resume->secret));
	return WIRE_RESUME_BYTES;
}

void wire_pt2pt_head_write(
	uint8_t out[WIRE_PT2PT_BYTES], const uint8_t type[16], uint32_t payload_bytes)
{
	assert(payload_bytes <= UINT32_MAX - WIRE_PT2PT_BYTES);
	put_header(out, (size_t)WIRE_PT2PT_BYTES + payload_bytes, WIRE_PT2PT);
	put_u16(out + 8, WIRE_PT2PT_BYTES);
	put_u16(out + 10, 0);
	memcpy(out + 12, type, 16);
}
