/*
 * The functions of p2p.h that peerhub does not serve: records and their database, configuration
 * export, password groups, key provider handles. They clear their out-parameters and return E_NOTIMPL;
 * the PeerGroup* ones return PEER_E_NOT_INITIALIZED before PeerGroupStartup like all others. They
 * check nothing else: there is nothing that a valid argument could get. docs/p2p.md lists them.
 */
#include "api/detail.h"
#include "api/runtime.h"
#include "p2p.h"

static HRESULT notimpl_group(const char *function)
{
	if (!runtime_is_started())
		return detail_fail(
			PEER_E_NOT_INITIALIZED, "%s: PeerGroupStartup was not called", function);
	return detail_fail(E_NOTIMPL, "%s is not served by peerhub", function);
}

#define RETURN_POINTER_NULL(pointer)       \
	do {                               \
		if ((pointer) != NULL)     \
			*(pointer) = NULL; \
	} while (0)

/* Records ------------------------------------------------------------------------------------ */

HRESULT PeerGroupGetRecord(HGROUP hGroup, const GUID *pRecordId, PPEER_RECORD *ppRecord)
{
	(void)hGroup;
	(void)pRecordId;
	RETURN_POINTER_NULL(ppRecord);
	return notimpl_group(__func__);
}

HRESULT PeerGroupAddRecord(HGROUP hGroup, PPEER_RECORD pRecord, GUID *pRecordId)
{
	(void)hGroup;
	(void)pRecord;
	if (pRecordId != NULL)
		*pRecordId = (GUID){0};
	return notimpl_group(__func__);
}

HRESULT PeerGroupUpdateRecord(HGROUP hGroup, PPEER_RECORD pRecord)
{
	(void)hGroup;
	(void)pRecord;
	return notimpl_group(__func__);
}

HRESULT PeerGroupDeleteRecord(HGROUP hGroup, const GUID *pRecordId)
{
	(void)hGroup;
	(void)pRecordId;
	return notimpl_group(__func__);
}

HRESULT PeerGroupEnumRecords(HGROUP hGroup, const GUID *pRecordType, HPEERENUM *phPeerEnum)
{
	(void)hGroup;
	(void)pRecordType;
	RETURN_POINTER_NULL(phPeerEnum);
	return notimpl_group(__func__);
}

HRESULT PeerGroupSearchRecords(HGROUP hGroup, PCWSTR pwzCriteria, HPEERENUM *phPeerEnum)
{
	(void)hGroup;
	(void)pwzCriteria;
	RETURN_POINTER_NULL(phPeerEnum);
	return notimpl_group(__func__);
}

HRESULT PeerGroupExportDatabase(HGROUP hGroup, PCWSTR pwzFilePath)
{
	(void)hGroup;
	(void)pwzFilePath;
	return notimpl_group(__func__);
}

HRESULT PeerGroupImportDatabase(HGROUP hGroup, PCWSTR pwzFilePath)
{
	(void)hGroup;
	(void)pwzFilePath;
	return notimpl_group(__func__);
}

/* Configuration ------------------------------------------------------------------------------ */

HRESULT PeerGroupExportConfig(HGROUP hGroup, PCWSTR pwzPassword, PWSTR *ppwzXML)
{
	(void)hGroup;
	(void)pwzPassword;
	RETURN_POINTER_NULL(ppwzXML);
	return notimpl_group(__func__);
}

HRESULT PeerGroupImportConfig(
	PCWSTR pwzXML, PCWSTR pwzPassword, BOOL fOverwrite, PWSTR *ppwzIdentity, PWSTR *ppwzGroup)
{
	(void)pwzXML;
	(void)pwzPassword;
	(void)fOverwrite;
	RETURN_POINTER_NULL(ppwzIdentity);
	RETURN_POINTER_NULL(ppwzGroup);
	return notimpl_group(__func__);
}

/* Password groups ---------------------------------------------------------------------------- */

HRESULT PeerGroupPasswordJoin(PCWSTR pwzIdentity, PCWSTR pwzInvitation, PCWSTR pwzPassword,
	PCWSTR pwzCloud, HGROUP *phGroup)
{
	(void)pwzIdentity;
	(void)pwzInvitation;
	(void)pwzPassword;
	(void)pwzCloud;
	RETURN_POINTER_NULL(phGroup);
	return notimpl_group(__func__);
}

HRESULT PeerGroupCreatePasswordInvitation(HGROUP hGroup, PWSTR *ppwzInvitation)
{
	(void)hGroup;
	RETURN_POINTER_NULL(ppwzInvitation);
	return notimpl_group(__func__);
}

HRESULT PeerGroupResumePasswordAuthentication(HGROUP hGroup, HPEEREVENT hPeerEventHandle)
{
	(void)hGroup;
	(void)hPeerEventHandle;
	return notimpl_group(__func__);
}

/* Identities: no PeerGroupStartup needed -------------------------------------------------------- */

HRESULT PeerIdentityGetCryptKey(PCWSTR pwzIdentity, HCRYPTPROV *phCryptProv)
{
	(void)pwzIdentity;
	if (phCryptProv != NULL)
		*phCryptProv = 0;
	return detail_fail(E_NOTIMPL, "there are no key provider handles: use PeerIdentityExport");
}
