/*
 * Invitations: PEERINVITATION 1.0, read and written.
 *
 *   CLOUDNAME, SCOPE, CLOUDFLAGS   as documented
 *   GMC          PKCS #7 with the invitee's chain, root first
 *   PROPERTIES   the group's properties, signed by the group's key (api/properties.h), if known
 *   ADDRESSES    "host:port" separated by spaces, where to try; may be absent
 *   SIGNATURE    over all of the above and VERSION, by the issuer of the invitee's certificate
 *
 * The last three are ours. Nobody but the issuer can change, drop or add anything. Any thread.
 */
#ifndef PEERHUB_API_INVITATION_H
#define PEERHUB_API_INVITATION_H

#include "api/credential.h"

#define INVITATION_UNITS_MAX 65535u /* a client's buffer of 64 Ki units holds it with its NUL */
#define INVITATION_CLOUD "Global_"

struct invitation {
	char cloud[PEER_TEXT_BYTES];
	uint32_t scope; /* PNRP_SCOPE */
	uint32_t cloud_flags; /* PNRP_CLOUD_FLAGS */
	uint32_t chain_count; /* leaf first */
	X509 *chain[PH_CHAIN_MAX];
	struct store_bytes chain_der; /* PKCS #7, root first */
	struct store_bytes packed_properties; /* may be empty */
	bool has_properties;
	struct group_properties properties;
	uint32_t address_count;
	ph_address addresses[PH_ADDRESSES_MAX];
	struct trust_result trust;
};

/*
 * Read and verify everything but the dates; those are in trust.valid_from_s and valid_to_s.
 * E_INVALIDARG (NULL, too long, not XML, another document), PEER_E_UNSUPPORTED_VERSION,
 * PEER_E_INVITATION_NOT_TRUSTED, E_OUTOFMEMORY. *invitation is malloc'd: invitation_free.
 */
HRESULT invitation_read(PCWSTR xml, struct invitation **invitation);
void invitation_free(struct invitation *invitation); /* NULL allowed */

/* Write and sign. chain: leaf first; signer: the key that issued chain[0]. *xml malloc'd UTF-8.
 * PEER_E_CHAIN_TOO_LONG (the text would be over INVITATION_UNITS_MAX), E_OUTOFMEMORY. */
struct invitation_parts {
	X509 *const *chain;
	uint32_t chain_count;
	struct store_bytes properties;
	const ph_address *addresses;
	uint32_t address_count;
	EVP_PKEY *signer;
};
HRESULT invitation_write(const struct invitation_parts *parts, char **xml);

#endif
