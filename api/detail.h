/*
 * Detail: one line of text per thread about the p2p call that failed last there, behind
 * PeerhubLastErrorText(). Codes stay few; this tells which argument, file or peer was meant.
 * A public function clears it on entry when it may set it. UTF-8; cut at DETAIL_BYTES_MAX.
 */
#ifndef PEERHUB_API_DETAIL_H
#define PEERHUB_API_DETAIL_H

#include "peerhub/win32.h"

#define DETAIL_BYTES_MAX 512u /* with NUL: two paths or peer names and a sentence */

void detail_clear(void);
void detail_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* detail_set, and give `result` back: `return detail_fail(E_INVALIDARG, "pAddress: %s", why);` */
HRESULT detail_fail(HRESULT result, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
