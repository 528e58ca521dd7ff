/* Programs on the harness whose connections speak TLS: one identity for all their cases. */
#ifndef PEERHUB_TESTS_HARNESS_TLS_H
#define PEERHUB_TESTS_HARNESS_TLS_H

#include "tests/engine/test_certs.h"
#include "tests/fake/harness_case.h"

static struct ph_credentials *credentials;

static inline int group_begin(void **state)
{
	(void)state;
	credentials = test_identity_create(TEST_P256, "own");
	return 0;
}

static inline int group_end(void **state)
{
	(void)state;
	ph_credentials_put(credentials);
	return 0;
}

#endif
