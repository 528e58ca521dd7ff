/*
 * transfer.h: the messages of a file (or a stream of lines) on its way from one peer to another.
 *
 * Pure functions over bytes. Each kind is a message type of its own, transfer_type_of(kind): on a
 * direct connection the PT2PT type, through a hub the inner type of a relay message. The rules of
 * the exchange are in docs/transfer.md, the two machines that follow them in sender.h, receiver.h.
 */
#ifndef PEERHUB_HUB_TRANSFER_H
#define PEERHUB_HUB_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRANSFER_CHUNK_BYTES_MAX (256u << 10) /* data of one DATA message: bounds what we buffer */
#define TRANSFER_NAME_BYTES_MAX 1024u /* an offered file name; longer than any file system's */
#define TRANSFER_TEXT_BYTES_MAX 256u /* why a transfer failed, in words */
#define TRANSFER_NOTE_BYTES_MAX (64u << 10) /* one broadcast line */
#define TRANSFER_SIZE_UNKNOWN UINT64_MAX
/* The longest encoded message. */
#define TRANSFER_BYTES_MAX (TRANSFER_CHUNK_BYTES_MAX + 2048u)

enum transfer_kind {
	TRANSFER_OFFER = 1, /* sender: id, content, size, digest if known, name */
	TRANSFER_ACK = 2, /* receiver: id, bytes taken so far; 0 accepts the offer */
	TRANSFER_DATA = 3, /* sender: id, offset, bytes */
	TRANSFER_END = 4, /* sender: id, size, digest of everything */
	TRANSFER_RESULT = 5, /* receiver: id, code, digest of what it has, text; the last word */
	TRANSFER_CLOSE = 6, /* sender: id, code, text; its last word. 0: it has the result */
	TRANSFER_NOTE = 7, /* one line to everybody, unanswered: text */
};

enum transfer_content {
	TRANSFER_FILE = 1,
	TRANSFER_LINES = 2,
};

#define TRANSFER_CODES(X)                                                  \
	X(TRANSFER_OK, 0, "ok")                                            \
	X(TRANSFER_DIGEST, 1, "the SHA-256 does not match")                \
	X(TRANSFER_REFUSED, 2, "the receiver takes nothing of this kind")  \
	X(TRANSFER_BUSY, 3, "the receiver is busy")                        \
	X(TRANSFER_STORAGE, 4, "the receiver could not store it")          \
	X(TRANSFER_UNKNOWN, 5, "the receiver does not know this transfer") \
	X(TRANSFER_PROTOCOL, 6, "a message of the transfer is wrong")      \
	X(TRANSFER_SIZE, 7, "the size is not the one offered")             \
	X(TRANSFER_LEAVING, 8, "the receiver is leaving")                  \
	X(TRANSFER_SOURCE, 9, "the sender could not read it")              \
	X(TRANSFER_STOPPED, 10, "the sender was stopped")                  \
	X(TRANSFER_IDLE, 11, "nothing came for too long")

enum transfer_code {
#define TRANSFER_CODE_ENUM(name, value, text) name = value,
	TRANSFER_CODES(TRANSFER_CODE_ENUM)
#undef TRANSFER_CODE_ENUM
};

/* Fields that a kind does not carry are 0 after decoding and ignored when encoding. */
struct transfer_message {
	enum transfer_kind kind;
	uint64_t id; /* the sender's, random: unique among its transfers to one receiver */
	uint8_t content; /* OFFER: enum transfer_content */
	bool has_digest; /* OFFER */
	uint64_t size; /* OFFER (may be TRANSFER_SIZE_UNKNOWN), END */
	uint64_t offset; /* ACK, DATA */
	uint32_t code; /* RESULT, CLOSE */
	uint8_t digest[32]; /* OFFER, END, RESULT */
	const char *
		text; /* OFFER: name; RESULT, CLOSE: why; NOTE: the line. UTF-8, no NUL at the end */
	size_t text_bytes;
	const uint8_t *data; /* DATA */
	size_t data_bytes;
};

/* The message type of a kind in big-endian field order, and back (0: not one of ours). */
void transfer_type_of(enum transfer_kind kind, uint8_t type[16]);
unsigned transfer_kind_of(const uint8_t type[16]);

/*
 * Write a message into out[out_bytes]. Returns 0 and *written, -EINVAL (a field over its limit,
 * text that is not UTF-8) or -ENOBUFS.
 */
int transfer_encode(
	const struct transfer_message *message, uint8_t *out, size_t out_bytes, size_t *written);
/* Read a message of this kind; text and data point into the input. 0, or -EBADMSG and *why. */
int transfer_decode(enum transfer_kind kind, const uint8_t *data, size_t bytes,
	struct transfer_message *message, const char **why);

/* Static text; "unknown code" outside the list. */
const char *transfer_code_name(uint32_t code);

/*
 * A name under which an offered file may be stored: the part after the last / or \, control
 * characters and bytes that are not UTF-8 as _, no leading dot, at most TRANSFER_STORE_BYTES_MAX
 * bytes, never empty. Writes it with NUL into out[TRANSFER_STORE_BYTES_MAX + 1].
 */
#define TRANSFER_STORE_BYTES_MAX 200u /* leaves room for .part and a number in NAME_MAX of 255 */
void transfer_name_clean(const char *name, size_t bytes, char *out);

#endif
