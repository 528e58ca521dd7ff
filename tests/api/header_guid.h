/* What the two files of a header program share. */
#ifndef PEERHUB_TESTS_HEADER_GUID_H
#define PEERHUB_TESTS_HEADER_GUID_H

#include "p2p.h"

#ifdef __cplusplus
extern "C" {
#endif
const GUID *header_guid_of_the_library(void);
#ifdef __cplusplus
}
#endif
#endif
