/*
 * The decoding short cut of PH_HUB_TLS_FAST_DECODE. OpenSSL 3.0 builds a decoder chain anew for every
 * public key of every certificate it parses, more than a quarter of a handshake. It takes the direct
 * path of older releases when an ENGINE has registered methods for that kind of key; we register
 * copies of the library's own methods. The registration is process-wide and stays.
 */
#ifndef PEERHUB_ENGINE_TLS_DECODE_H
#define PEERHUB_ENGINE_TLS_DECODE_H

#include <stdbool.h>

/* Any thread, the first call decides. True: on, and its self check passed (keys decoded that way
 * verify good signatures and refuse bad ones); false: the plain path is in use as before. */
bool tls_decode_enable(void);

#endif
