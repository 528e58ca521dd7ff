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
