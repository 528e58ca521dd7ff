/*
 * CERT_PUBLIC_KEY_INFO, the form in which p2p.h carries public keys, and the DER we keep. The
 * reverse direction, spki_from_key_info, is in api/credential.h.
 */
#ifndef PEERHUB_API_KEY_INFO_H
#define PEERHUB_API_KEY_INFO_H

#include "api/block.h"
#include "api/key.h"
#include "p2p.h"

/* In a block; NULL while measuring. spki is a valid SubjectPublicKeyInfo. */
CERT_PUBLIC_KEY_INFO *key_info_take(struct block *block, const uint8_t *spki, size_t spki_bytes);

#endif
