/* See crypto.h. */
#include "api/crypto.h"

#include <errno.h>
#include <openssl/err.h>

int crypto_failure(int other)
{
	unsigned long error;
	int status = other;

	while ((error = ERR_get_error()) != 0)
		if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
			status = -ENOMEM;
	return status;
}

int crypto_failure_since(int is_marked, int other)
{
	int status = other;

	if (!is_marked)
		return crypto_failure(other);
	if (ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE)
		status = -ENOMEM;
	ERR_pop_to_mark();
	return status;
}
