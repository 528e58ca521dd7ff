/*
 * p2p.h: Peer Grouping and the Peer Identity Manager, with the names, values and layouts of Windows
 * (NTDDI_VERSION >= Vista, 64-bit), as docs/p2p.md describes them on Linux.
 *
 * Every call may be made from any thread, also while events are being handled; none blocks on the
 * network and no function calls back into the client. All notification is an event object that the
 * library signals, after which the client drains PeerGroupGetEventData.
 *
 * Memory: what a function hands out is one block, given back by one PeerFreeData on its top-level
 * pointer. Handles are opaque values checked in tables: NULL, stale, foreign and wrong-kind ones get
 * their error code. On failure out-parameters are NULL or 0.
 *
 * Order of checks of every PeerGroup* function: started, handle, arguments, state, keys. Every one of
 * them but PeerGroupStartup returns PEER_E_NOT_INITIALIZED before it; that line is not repeated below.
 * "Thread any" holds for all and is not repeated either. peerhub's own additions are in
 * peerhub/extras.h; PeerhubLastErrorText() there has the detail behind a code.
 */
#ifndef PEERHUB_P2P_H
#define PEERHUB_P2P_H

#include "peerhub/win32.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- versions, name space, codes of FACILITY_WIN32 -------------------------------------- */

#define PEER_GROUP_VERSION MAKEWORD(1, 1)
#define PEER_GRAPH_VERSION MAKEWORD(1, 0)

#define NS_PNRPNAME 38
#define NS_PNRPCLOUD 39

#define WSA_PNRP_ERROR_BASE 11500
#define WSA_PNRP_CLOUD_NOT_FOUND 11501
#define WSA_PNRP_CLOUD_DISABLED 11502
#define WSA_PNRP_INVALID_IDENTITY 11503
#define WSA_PNRP_TOO_MUCH_LOAD 11504
#define WSA_PNRP_CLOUD_IS_SEARCH_ONLY 11505
#define WSA_PNRP_CLIENT_INVALID_COMPARTMENT_ID 11506
#define WSA_PNRP_DUPLICATE_PEER_NAME 11508
#define WSA_PNRP_CLOUD_IS_DEAD 11509

#define PEER_E_CLOUD_NOT_FOUND HRESULT_FROM_WIN32(WSA_PNRP_CLOUD_NOT_FOUND)
#define PEER_E_CLOUD_DISABLED HRESULT_FROM_WIN32(WSA_PNRP_CLOUD_DISABLED)
#define PEER_E_INVALID_IDENTITY HRESULT_FROM_WIN32(WSA_PNRP_INVALID_IDENTITY)
#define PEER_E_TOO_MUCH_LOAD HRESULT_FROM_WIN32(WSA_PNRP_TOO_MUCH_LOAD)
#define PEER_E_CLOUD_IS_SEARCH_ONLY HRESULT_FROM_WIN32(WSA_PNRP_CLOUD_IS_SEARCH_ONLY)
#define PEER_E_CLIENT_INVALID_COMPARTMENT_ID \
	HRESULT_FROM_WIN32(WSA_PNRP_CLIENT_INVALID_COMPARTMENT_ID)
#define PEER_E_DUPLICATE_PEER_NAME HRESULT_FROM_WIN32(WSA_PNRP_DUPLICATE_PEER_NAME)
#define PEER_E_CLOUD_IS_DEAD HRESULT_FROM_WIN32(WSA_PNRP_CLOUD_IS_DEAD)
#define PEER_E_NOT_FOUND HRESULT_FROM_WIN32(ERROR_NOT_FOUND)
#define PEER_E_DISK_FULL HRESULT_FROM_WIN32(ERROR_DISK_FULL)
#define PEER_E_ALREADY_EXISTS HRESULT_FROM_WIN32(ERROR_ALREADY_EXISTS)

/* ---- enumerations ----------------------------------------------------------------------- */

/* pnrpns.h; PEER_INVITATION_INFO.dwScope and dwCloudFlags */
typedef enum _PNRP_SCOPE {
	PNRP_SCOPE_ANY = 0,
	PNRP_GLOBAL_SCOPE = 1,
	PNRP_SITE_LOCAL_SCOPE = 2,
	PNRP_LINK_LOCAL_SCOPE = 3,
} PNRP_SCOPE;

typedef enum _PNRP_CLOUD_FLAGS {
	PNRP_CLOUD_NO_FLAGS = 0,
	PNRP_CLOUD_NAME_LOCAL = 1,
} PNRP_CLOUD_FLAGS;

typedef enum peer_record_change_type_tag {
	PEER_RECORD_ADDED = 1,
	PEER_RECORD_UPDATED = 2,
	PEER_RECORD_DELETED = 3,
	PEER_RECORD_EXPIRED = 4,
} PEER_RECORD_CHANGE_TYPE;

typedef enum peer_connection_status_tag {
	PEER_CONNECTED = 1,
	PEER_DISCONNECTED = 2,
	PEER_CONNECTION_FAILED = 3,
} PEER_CONNECTION_STATUS;

typedef enum peer_connection_flags_tag {
	PEER_CONNECTION_NEIGHBOR = 0x0001,
	PEER_CONNECTION_DIRECT = 0x0002,
} PEER_CONNECTION_FLAGS;

typedef enum peer_record_flags_tag {
	PEER_RECORD_FLAG_AUTOREFRESH = 0x0001,
	PEER_RECORD_FLAG_DELETED = 0x0002,
} PEER_RECORD_FLAGS;

typedef enum peer_group_event_type_tag {
	PEER_GROUP_EVENT_STATUS_CHANGED = 1,
	PEER_GROUP_EVENT_PROPERTY_CHANGED = 2,
	PEER_GROUP_EVENT_RECORD_CHANGED = 3,
	PEER_GROUP_EVENT_DIRECT_CONNECTION = 4,
	PEER_GROUP_EVENT_NEIGHBOR_CONNECTION = 5,
	PEER_GROUP_EVENT_INCOMING_DATA = 6,
	PEER_GROUP_EVENT_MEMBER_CHANGED = 8,
	PEER_GROUP_EVENT_CONNECTION_FAILED = 10,
	PEER_GROUP_EVENT_AUTHENTICATION_FAILED = 11,
} PEER_GROUP_EVENT_TYPE;

typedef enum peer_group_status_tag {
	PEER_GROUP_STATUS_LISTENING = 0x0001,
	PEER_GROUP_STATUS_HAS_CONNECTIONS = 0x0002,
} PEER_GROUP_STATUS;

typedef enum peer_group_property_flags_tag {
	PEER_MEMBER_DATA_OPTIONAL = 0x0001,
	PEER_DISABLE_PRESENCE = 0x0002,
	PEER_DEFER_EXPIRATION = 0x0004,
} PEER_GROUP_PROPERTY_FLAGS;

typedef enum peer_group_authentication_scheme_tag {
	PEER_GROUP_GMC_AUTHENTICATION = 0x0001,
	PEER_GROUP_PASSWORD_AUTHENTICATION = 0x0002,
} PEER_GROUP_AUTHENTICATION_SCHEME;

typedef enum peer_member_flags_tag {
	PEER_MEMBER_PRESENT = 0x0001,
} PEER_MEMBER_FLAGS;

typedef enum peer_member_change_type_tag {
	PEER_MEMBER_CONNECTED = 1,
	PEER_MEMBER_DISCONNECTED = 2,
	PEER_MEMBER_UPDATED = 3,
	PEER_MEMBER_JOINED = 4,
	PEER_MEMBER_LEFT = 5,
} PEER_MEMBER_CHANGE_TYPE;

typedef enum peer_issue_credential_flags_tag {
	PEER_GROUP_STORE_CREDENTIALS = 0x0001,
} PEER_ISSUE_CREDENTIAL_FLAGS;

/* ---- handles and structures ------------------------------------------------------------- */

typedef PVOID HGROUP, *PHGROUP;
typedef PVOID HPEEREVENT, *PHPEEREVENT;
typedef PVOID HPEERENUM, *PHPEERENUM;
typedef GUID PEER_ROLE_ID, *PPEER_ROLE_ID;

typedef struct peer_version_data_tag {
	WORD wVersion; /* to use */
	WORD wHighestVersion; /* supported */
} PEER_VERSION_DATA, *PPEER_VERSION_DATA;

typedef struct peer_data_tag {
	ULONG cbData; /* may be 0 */
	PBYTE pbData;
} PEER_DATA, *PPEER_DATA;
typedef const PEER_DATA *PCPEER_DATA;

typedef struct peer_record_tag {
	DWORD dwSize;
	GUID type;
	GUID id;
	DWORD dwVersion;
	DWORD dwFlags;
	PWSTR pwzCreatorId;
	PWSTR pwzModifiedById;
	PWSTR pwzAttributes;
	FILETIME ftCreation;
	FILETIME ftExpiration;
	FILETIME ftLastModified;
	PEER_DATA securityData;
	PEER_DATA data;
} PEER_RECORD, *PPEER_RECORD;

typedef struct peer_address_tag {
	DWORD dwSize;
	SOCKADDR_IN6 sin6; /* port in network byte order; IPv4 as ::ffff:a.b.c.d */
} PEER_ADDRESS, *PPEER_ADDRESS;
typedef const PEER_ADDRESS *PCPEER_ADDRESS;

typedef struct peer_connection_info_tag {
	DWORD dwSize;
	DWORD dwFlags; /* PEER_CONNECTION_FLAGS */
	ULONGLONG ullConnectionId;
	ULONGLONG ullNodeId; /* the remote node */
	PWSTR pwzPeerId; /* the identity at the other end */
	PEER_ADDRESS address;
} PEER_CONNECTION_INFO, *PPEER_CONNECTION_INFO;

typedef struct peer_event_incoming_data_tag {
	DWORD dwSize;
	ULONGLONG ullConnectionId;
	GUID type; /* the sender's label */
	PEER_DATA data; /* pbData is never NULL and aligned to 8 */
} PEER_EVENT_INCOMING_DATA, *PPEER_EVENT_INCOMING_DATA;

typedef struct peer_event_record_change_data_tag {
	DWORD dwSize;
	PEER_RECORD_CHANGE_TYPE changeType;
	GUID recordId;
	GUID recordType;
} PEER_EVENT_RECORD_CHANGE_DATA, *PPEER_EVENT_RECORD_CHANGE_DATA;

typedef struct peer_event_connection_change_data_tag {
	DWORD dwSize;
	PEER_CONNECTION_STATUS status;
	ULONGLONG ullConnectionId; /* local */
	ULONGLONG ullNodeId; /* remote; 0 when it never became known */
	ULONGLONG ullNextConnectionId; /* 0: nothing further is tried */
	HRESULT hrConnectionFailedReason; /* with PEER_CONNECTION_FAILED, else 0 */
} PEER_EVENT_CONNECTION_CHANGE_DATA, *PPEER_EVENT_CONNECTION_CHANGE_DATA;

typedef struct peer_event_synchronized_data_tag {
	DWORD dwSize;
	GUID recordType;
} PEER_EVENT_SYNCHRONIZED_DATA, *PPEER_EVENT_SYNCHRONIZED_DATA;

typedef struct peer_event_member_change_data_tag {
	DWORD dwSize;
	PEER_MEMBER_CHANGE_TYPE changeType;
	PWSTR pwzIdentity;
} PEER_EVENT_MEMBER_CHANGE_DATA, *PPEER_EVENT_MEMBER_CHANGE_DATA;

typedef struct peer_group_event_registration_tag {
	PEER_GROUP_EVENT_TYPE eventType;
	GUID *pType; /* filters RECORD_CHANGED and INCOMING_DATA; NULL: all; else ignored */
} PEER_GROUP_EVENT_REGISTRATION, *PPEER_GROUP_EVENT_REGISTRATION;

typedef struct peer_group_event_data_tag {
	PEER_GROUP_EVENT_TYPE eventType;
#ifdef __GNUC__
	__extension__
#endif
		union {
		PEER_GROUP_STATUS dwStatus; /* STATUS_CHANGED */
		PEER_EVENT_INCOMING_DATA incomingData; /* INCOMING_DATA */
		PEER_EVENT_RECORD_CHANGE_DATA recordChangeData; /* RECORD_CHANGED */
		PEER_EVENT_CONNECTION_CHANGE_DATA connectionChangeData; /* *_CONNECTION */
		PEER_EVENT_MEMBER_CHANGE_DATA memberChangeData; /* MEMBER_CHANGED */
		HRESULT hrConnectionFailedReason; /* CONNECTION_FAILED */
	};
} PEER_GROUP_EVENT_DATA, *PPEER_GROUP_EVENT_DATA;

typedef struct peer_name_pair_tag {
	DWORD dwSize;
	PWSTR pwzPeerName;
	PWSTR pwzFriendlyName;
} PEER_NAME_PAIR, *PPEER_NAME_PAIR;

typedef struct peer_credential_info_tag {
	DWORD dwSize;
	DWORD dwFlags; /* 0 */
	PWSTR pwzFriendlyName;
	CERT_PUBLIC_KEY_INFO *pPublicKey;
	PWSTR pwzIssuerPeerName;
	PWSTR pwzIssuerFriendlyName;
	FILETIME ftValidityStart;
	FILETIME ftValidityEnd;
	ULONG cRoles;
	PEER_ROLE_ID *pRoles;
} PEER_CREDENTIAL_INFO, *PPEER_CREDENTIAL_INFO;

typedef struct peer_member_tag {
	DWORD dwSize;
	DWORD dwFlags; /* PEER_MEMBER_FLAGS */
	PWSTR pwzIdentity;
	PWSTR pwzAttributes;
	ULONGLONG ullNodeId;
	ULONG cAddresses;
	PEER_ADDRESS *pAddresses;
	PEER_CREDENTIAL_INFO *pCredentialInfo; /* never NULL */
} PEER_MEMBER, *PPEER_MEMBER;

typedef struct peer_invitation_info_tag {
	DWORD dwSize;
	DWORD dwFlags; /* 0 */
	PWSTR pwzCloudName;
	DWORD dwScope; /* PNRP_SCOPE */
	DWORD dwCloudFlags; /* PNRP_CLOUD_FLAGS */
	PWSTR pwzGroupPeerName;
	PWSTR pwzIssuerPeerName;
	PWSTR pwzSubjectPeerName;
	PWSTR pwzGroupFriendlyName;
	PWSTR pwzIssuerFriendlyName;
	PWSTR pwzSubjectFriendlyName;
	FILETIME ftValidityStart;
	FILETIME ftValidityEnd;
	ULONG cRoles;
	PEER_ROLE_ID *pRoles;
	ULONG cClassifiers;
	PWSTR *ppwzClassifiers;
	CERT_PUBLIC_KEY_INFO *pSubjectPublicKey;
	PEER_GROUP_AUTHENTICATION_SCHEME authScheme;
} PEER_INVITATION_INFO, *PPEER_INVITATION_INFO;

typedef struct peer_group_properties_tag {
	DWORD dwSize;
	DWORD dwFlags; /* PEER_GROUP_PROPERTY_FLAGS */
	PWSTR pwzCloud;
	PWSTR pwzClassifier;
	PWSTR pwzGroupPeerName;
	PWSTR pwzCreatorPeerName;
	PWSTR pwzFriendlyName;
	PWSTR pwzComment;
	ULONG ulMemberDataLifetime; /* seconds; 0: the maximum */
	ULONG ulPresenceLifetime; /* seconds; 0: the default */
	DWORD dwAuthenticationSchemes; /* PEER_GROUP_AUTHENTICATION_SCHEME */
	PWSTR pwzGroupPassword;
	PEER_ROLE_ID groupPasswordRole;
} PEER_GROUP_PROPERTIES, *PPEER_GROUP_PROPERTIES;

/* Roles. The library has their storage; with INITGUID the including file has its own. */
DEFINE_GUID(PEER_GROUP_ROLE_ADMIN, 0x04387127, 0xaa56, 0x450a, 0x8c, 0xe5, 0x4f, 0x56, 0x5c, 0x67,
	0x90, 0xf4);
DEFINE_GUID(PEER_GROUP_ROLE_MEMBER, 0xf12dc4c7, 0x0857, 0x4ca0, 0x93, 0xfc, 0xb1, 0xbb, 0x19, 0xa3,
	0xd8, 0xc2);
DEFINE_GUID(PEER_GROUP_ROLE_INVITING_MEMBER, 0x4370fd89, 0xdc18, 0x4cfb, 0x8d, 0xbf, 0x98, 0x53,
	0xa8, 0xa9, 0xf9, 0x05);

/* ---- memory and enumerations (no PeerGroupStartup needed) ------------------------------- */

/*
 * Give back a block that a Grouping or Identity function handed out.
 *
 * pvData   the top-level pointer, never a nested one; NULL is allowed. A pointer that is not such a
 *          block, or was given back before, is left alone.
 * Source   docs/p2p.md, memory
 */
PEERHUB_P2P_API VOID WINAPI PeerFreeData(LPCVOID pvData);

/*
 * How many items a snapshot enumeration holds in all, not how many remain.
 *
 * Returns  S_OK
 *          E_INVALIDARG  not a live enumeration, or pCount NULL
 * Source   docs/p2p.md, memory
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGetItemCount(HPEERENUM hPeerEnum, ULONG *pCount);

/*
 * Take the next items of an enumeration.
 *
 * pCount    in: how many are wanted (0 is allowed); out: how many came, fewer at the end
 * pppvItems out: an array of that many item pointers. Array, items and strings are one block for one
 *           PeerFreeData; it outlives PeerEndEnumeration. NULL when none came.
 * Returns   S_OK           also at the end, with *pCount 0
 *           E_INVALIDARG   not a live enumeration, pCount or pppvItems NULL
 *           E_OUTOFMEMORY  the position is unchanged
 * Source    docs/p2p.md, memory
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGetNextItem(
	HPEERENUM hPeerEnum, ULONG *pCount, PVOID **pppvItems);

/*
 * Release an enumeration; blocks taken from it stay valid.
 *
 * Returns  S_OK
 *          E_INVALIDARG  not a live enumeration
 * Source   docs/p2p.md, memory
 */
PEERHUB_P2P_API HRESULT WINAPI PeerEndEnumeration(HPEERENUM hPeerEnum);

/* ---- identities (no PeerGroupStartup needed) -------------------------------------------- */

/*
 * Make a key pair and a self-signed certificate, and store them as a new identity of this user.
 *
 * pwzClassifier    NULL or at most 149 units
 * pwzFriendlyName  NULL (the peer name is used) or at most 255 units
 * hCryptProv       0: there are no key providers here
 * ppwzIdentity     out: the peer name, for PeerFreeData
 * Returns  S_OK
 *          E_HANDLE                    hCryptProv is not 0
 *          E_INVALIDARG                ppwzIdentity NULL, or text malformed or too long
 *          E_OUTOFMEMORY
 *          PEER_E_ALREADY_EXISTS       same key and classifier
 *          PEER_E_NO_KEY_ACCESS        the store or a key file cannot be read or written
 *          PEER_E_TOO_MANY_IDENTITIES
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityCreate(
	PCWSTR pwzClassifier, PCWSTR pwzFriendlyName, HCRYPTPROV hCryptProv, PWSTR *ppwzIdentity);

/*
 * The friendly name of an identity (NULL: the default one).
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY
 *          PEER_E_NO_KEY_ACCESS  its files cannot be read
 *          PEER_E_NOT_FOUND      no such identity
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityGetFriendlyName(
	PCWSTR pwzIdentity, PWSTR *ppwzFriendlyName);

/*
 * Change the friendly name; NULL or "" resets it to the peer name. At most 255 units.
 *
 * Returns  as PeerIdentityGetFriendlyName
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentitySetFriendlyName(
	PCWSTR pwzIdentity, PCWSTR pwzFriendlyName);

/*
 * The key provider handle of an identity. There are no such handles here.
 *
 * Returns  E_NOTIMPL always; *phCryptProv is 0
 * Source   docs/p2p.md, differences
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityGetCryptKey(PCWSTR pwzIdentity, HCRYPTPROV *phCryptProv);

/*
 * Remove an identity with its keys and certificates.
 *
 * Returns  S_OK
 *          E_INVALIDARG         pwzIdentity NULL or malformed
 *          PEER_E_GROUPS_EXIST  delete its groups first
 *          PEER_E_NOT_FOUND
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityDelete(PCWSTR pwzIdentity);

/*
 * The public part of an identity as XML, to give to an inviter byte for byte. NULL: the default
 * identity, made when there is none.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY
 *          E_HANDLE  no such identity
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityGetXML(PCWSTR pwzIdentity, PWSTR *ppwzIdentityXML);

/*
 * An identity with its private key, encrypted under a password (not NULL). No memberships.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_NO_KEY_ACCESS; PEER_E_NOT_FOUND
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityExport(
	PCWSTR pwzIdentity, PCWSTR pwzPassword, PWSTR *ppwzExportXML);

/*
 * Store an identity from the text of PeerIdentityExport.
 *
 * Returns  S_OK; E_OUTOFMEMORY; PEER_E_NO_KEY_ACCESS
 *          E_INVALIDARG           also a wrong password and altered text
 *          PEER_E_ALREADY_EXISTS
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityImport(
	PCWSTR pwzImportXML, PCWSTR pwzPassword, PWSTR *ppwzIdentity);

/*
 * The peer name of this user's default identity.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY
 *          PEER_E_NOT_FOUND  there is no identity
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerIdentityGetDefault(PWSTR *ppwzPeerName);

/*
 * Enumerate this user's identities; items are PEER_NAME_PAIR.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerEnumIdentities(HPEERENUM *phPeerEnum);

/*
 * Enumerate the groups of an identity (NULL: the default one); items are PEER_NAME_PAIR.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY
 *          PEER_E_NOT_FOUND  no such identity
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerEnumGroups(PCWSTR pwzIdentity, HPEERENUM *phPeerEnum);

/*
 * Compose a peer name: the identity's authority (NULL: "0", unsecured) and the classifier (NULL: the
 * identity's own name is the answer). Creates nothing.
 *
 * Returns  S_OK; E_OUTOFMEMORY
 *          E_INVALIDARG  both NULL, malformed or too long, or ppwzPeerName NULL
 * Source   docs/p2p.md, identities
 */
PEERHUB_P2P_API HRESULT WINAPI PeerCreatePeerName(
	PCWSTR pwzIdentity, PCWSTR pwzClassifier, PWSTR *ppwzPeerName);

/* ---- grouping: life cycle --------------------------------------------------------------- */

/*
 * Start the library for this process; counted, one PeerGroupShutdown for each.
 *
 * wVersionRequested  PEER_GROUP_VERSION; 0x0001 is also served
 * Returns  S_OK; E_OUTOFMEMORY
 *          E_INVALIDARG                pVersionData NULL
 *          PEER_E_UNSUPPORTED_VERSION  any other version; *pVersionData tells ours
 *          PEER_E_IPV6_NOT_INSTALLED   no IPv6 sockets
 *          PEER_E_CANNOT_START_SERVICE the engine was refused (io_uring): see the error text
 * Source   docs/p2p.md, start and end
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupStartup(
	WORD wVersionRequested, PPEER_VERSION_DATA pVersionData);

/*
 * Undo one PeerGroupStartup. The last one drops open groups, enumerations and registrations and
 * aborts their connections.
 *
 * Returns  S_OK; E_UNEXPECTED
 *          PEER_E_NOT_INITIALIZED  not started
 * Source   docs/p2p.md, start and end
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupShutdown(void);

/*
 * Create a group with a key of its own. The creator becomes owner and first member. Offline.
 *
 * pProperties  dwSize set, pwzGroupPeerName NULL, everything else optional; pwzCreatorPeerName NULL
 *              means the default identity
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_NO_KEY_ACCESS
 *          PEER_E_CLOUD_NAME_AMBIGUOUS, PEER_E_NO_CLOUD  the cloud
 *          PEER_E_INVALID_CLASSIFIER        over 149 units or malformed
 *          PEER_E_INVALID_PEER_NAME         the creator
 *          PEER_E_INVALID_GROUP_PROPERTIES  lifetimes, lengths, flags
 *          PEER_E_PASSWORD_DOES_NOT_MEET_POLICY
 *          HRESULT_FROM_WIN32(ERROR_DELETE_PENDING)  the identity is being deleted
 *          E_NOTIMPL                        password authentication
 * Source   docs/p2p.md, group life cycle
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupCreate(PPEER_GROUP_PROPERTIES pProperties, HGROUP *phGroup);

/*
 * Open a group created or joined before. Handles of one identity and group share one node.
 *
 * pwzIdentity  NULL: the default one;  pwzCloud  NULL: that of the properties
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_NO_KEY_ACCESS
 *          PEER_E_CLOUD_NAME_AMBIGUOUS, PEER_E_NO_CLOUD
 *          PEER_E_NOT_FOUND  no such group of this identity
 * Source   docs/p2p.md, group life cycle
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupOpen(
	PCWSTR pwzIdentity, PCWSTR pwzGroupPeerName, PCWSTR pwzCloud, HGROUP *phGroup);

/*
 * Become a member by an invitation. No network; the handle is offline.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_NO_KEY_ACCESS
 *          PEER_E_CLOUD_NAME_AMBIGUOUS, PEER_E_NO_CLOUD
 *          PEER_E_INVALID_PEER_NAME      the identity
 *          PEER_E_INVITATION_NOT_TRUSTED altered, or not for this identity
 *          PEER_E_INVALID_TIME_PERIOD    expired or not yet valid
 *          PEER_E_UNSUPPORTED_VERSION    of the invitation
 *          PEER_E_GROUP_IN_USE           the group is open already
 * Source   docs/p2p.md, group life cycle
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupJoin(
	PCWSTR pwzIdentity, PCWSTR pwzInvitation, PCWSTR pwzCloud, HGROUP *phGroup);

/* Join by an invitation and a password. Returns E_NOTIMPL always; *phGroup is NULL. */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupPasswordJoin(PCWSTR pwzIdentity, PCWSTR pwzInvitation,
	PCWSTR pwzPassword, PCWSTR pwzCloud, HGROUP *phGroup);

/*
 * Go online. The outcome is an event: STATUS_CHANGED, or CONNECTION_FAILED with its reason.
 *
 * Returns  S_OK                      also while an earlier call is still at it
 *          PEER_S_ALREADY_CONNECTED  listening, or with a connection
 *          PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, going online
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupConnect(HGROUP hGroup);

/*
 * Go online by neighbor connections to the given addresses instead of discovery.
 *
 * Returns  as PeerGroupConnect, and E_INVALIDARG (no addresses, NULL, or one that is not valid)
 * Source   docs/p2p.md, going online
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupConnectByAddress(
	HGROUP hGroup, ULONG cAddresses, PPEER_ADDRESS pAddresses);

/*
 * End this handle. The node's last handle closes its connections gracefully and takes it offline.
 *
 * Returns  S_OK; PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, group life cycle
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupClose(HGROUP hGroup);

/*
 * Erase a group's local data and certificates; its handles become invalid at once, here and in other
 * processes of this store. Identity NULL: the default one.
 *
 * Returns  S_OK; E_ACCESSDENIED; E_INVALIDARG; PEER_E_NO_KEY_ACCESS
 *          PEER_E_NOT_FOUND
 * Source   docs/p2p.md, group life cycle
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupDelete(PCWSTR pwzIdentity, PCWSTR pwzGroupPeerName);

/*
 * PEER_GROUP_STATUS flags; 0 is offline.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, group life cycle
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupGetStatus(HGROUP hGroup, DWORD *pdwStatus);

/*
 * The group's properties, one block for PeerFreeData.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_INVALID_GROUP
 *          PEER_E_GROUP_NOT_READY  joined, and they are not known yet
 * Source   docs/p2p.md, properties
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupGetProperties(
	HGROUP hGroup, PPEER_GROUP_PROPERTIES *ppProperties);

/*
 * Change the properties that may change (friendly name, comment, flags); creator only.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_GROUP_NOT_READY; PEER_E_INVALID_GROUP
 *          PEER_E_INVALID_GROUP_PROPERTIES  an immutable one differs, or a value is out of range
 *          PEER_E_NOT_AUTHORIZED            not the creator
 *          PEER_E_PASSWORD_DOES_NOT_MEET_POLICY
 * Source   docs/p2p.md, properties
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupSetProperties(
	HGROUP hGroup, PPEER_GROUP_PROPERTIES pProperties);

/* ---- grouping: invitations and members -------------------------------------------------- */

/*
 * Make an invitation for the identity described by PeerIdentityGetXML text.
 *
 * pftExpiration  UTC, at most our own remaining time; NULL: that maximum
 * pRoles         cRoles roles, none above our own
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_INVALID_GROUP; PEER_E_GROUP_NOT_READY
 *          PEER_E_CHAIN_TOO_LONG    over 24 membership certificates
 *          PEER_E_IDENTITY_DELETED
 *          PEER_E_NOT_AUTHORIZED    our role may not invite, or not as that role
 *          PEER_E_NO_KEY_ACCESS
 * Source   docs/p2p.md, invitations
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupCreateInvitation(HGROUP hGroup, PCWSTR pwzIdentityInfo,
	FILETIME *pftExpiration, ULONG cRoles, const GUID *pRoles, PWSTR *ppwzInvitation);

/* Make a password invitation. Returns E_NOTIMPL always; *ppwzInvitation is NULL. */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupCreatePasswordInvitation(
	HGROUP hGroup, PWSTR *ppwzInvitation);

/*
 * The details of an invitation; needs no group handle.
 *
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY
 *          PEER_E_INVITATION_NOT_TRUSTED; PEER_E_UNSUPPORTED_VERSION
 * Source   docs/p2p.md, invitations
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupParseInvitation(
	PCWSTR pwzInvitation, PPEER_INVITATION_INFO *ppInvitationInfo);

/*
 * Issue a new membership certificate; administrators only.
 *
 * pCredentialInfo  NULL: what is known of the subject, same duration; issuer fields are ignored
 * dwFlags          0: the invitation is returned. PEER_GROUP_STORE_CREDENTIALS: E_NOTIMPL
 * ppwzInvitation   optional
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_INVALID_GROUP
 *          PEER_E_IDENTITY_DELETED
 *          PEER_E_IDENTITY_NOT_FOUND  unknown subject and no pCredentialInfo
 *          PEER_E_NO_KEY_ACCESS; PEER_E_CHAIN_TOO_LONG; PEER_E_NOT_AUTHORIZED
 * Source   docs/p2p.md, invitations
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupIssueCredentials(HGROUP hGroup, PCWSTR pwzSubjectIdentity,
	PEER_CREDENTIAL_INFO *pCredentialInfo, DWORD dwFlags, PWSTR *ppwzInvitation);

/* Export the configuration. Returns E_NOTIMPL always; *ppwzXML is NULL. */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupExportConfig(
	HGROUP hGroup, PCWSTR pwzPassword, PWSTR *ppwzXML);

/* Import a configuration. Returns E_NOTIMPL always; both strings are NULL. */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupImportConfig(
	PCWSTR pwzXML, PCWSTR pwzPassword, BOOL fOverwrite, PWSTR *ppwzIdentity, PWSTR *ppwzGroup);

/*
 * Enumerate members: this node first, then peers connected now; items are PEER_MEMBER.
 *
 * dwFlags      0: all known; PEER_MEMBER_PRESENT: those online
 * pwzIdentity  one member; NULL: all
 * Returns  S_OK; E_INVALIDARG; E_OUTOFMEMORY; PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, members
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupEnumMembers(
	HGROUP hGroup, DWORD dwFlags, PCWSTR pwzIdentity, HPEERENUM *phPeerEnum);

/* ---- grouping: direct connections ------------------------------------------------------- */

/*
 * Start an attempt to connect to a member; the outcome is one DIRECT_CONNECTION event.
 *
 * pwzIdentity       the peer name expected there
 * pAddress          dwSize set, IPv6 or IPv4-mapped, a port
 * pullConnectionId  out: the id, written before any event for it can be taken
 * Returns  S_OK                    started
 *          E_INVALIDARG            NULL, malformed name or address
 *          E_OUTOFMEMORY
 *          PEER_E_CONNECT_SELF     our own identity or listening address
 *          PEER_E_NO_KEY_ACCESS
 *          PEER_E_INVALID_GROUP
 *          PEER_E_GROUP_NOT_READY  offline
 * Source   docs/p2p.md, direct connections
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupOpenDirectConnection(
	HGROUP hGroup, PCWSTR pwzIdentity, PPEER_ADDRESS pAddress, ULONGLONG *pullConnectionId);

/*
 * Close a direct connection, or cancel an attempt. Data accepted before is still delivered, in the
 * background; the id is dead on return.
 *
 * Returns  S_OK
 *          PEER_E_CONNECTION_NOT_FOUND  unknown, ended, or a neighbor connection
 *          PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, direct connections
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupCloseDirectConnection(
	HGROUP hGroup, ULONGLONG ullConnectionId);

/*
 * Enumerate this node's connections; items are PEER_CONNECTION_INFO.
 *
 * dwFlags  PEER_CONNECTION_NEIGHBOR and/or PEER_CONNECTION_DIRECT
 * Returns  S_OK           an empty enumeration when offline
 *          E_INVALIDARG   dwFlags 0 or unknown bits; phPeerEnum NULL
 *          E_OUTOFMEMORY; PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, direct connections
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupEnumConnections(
	HGROUP hGroup, DWORD dwFlags, HPEERENUM *phPeerEnum);

/*
 * Send one typed message on a direct or neighbor connection. Never blocks; the buffer is free on
 * return.
 *
 * pType   the label; the protocol's own ping type is refused
 * cbData  0..PEERHUB_MESSAGE_BYTES_MAX;  pvData  not NULL, also when cbData is 0
 * Returns  S_OK
 *          E_INVALIDARG                 NULL, ping type, or too large
 *          E_OUTOFMEMORY                the connection's queue is full, or no memory: it is kept
 *          PEER_E_CONNECTION_NOT_FOUND  not connected
 *          PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, direct connections
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupSendData(
	HGROUP hGroup, ULONGLONG ullConnectionId, const GUID *pType, ULONG cbData, PVOID pvData);

/* ---- grouping: events ------------------------------------------------------------------- */

/*
 * Register for event types. hEvent is signalled when an event is queued; it stays the caller's.
 *
 * pEventRegistrations  cEventRegistration entries, copied with their GUIDs
 * Returns  S_OK; E_OUTOFMEMORY; PEER_E_INVALID_GROUP
 *          E_INVALIDARG  no entries, hEvent not an event object, an unknown type, NULL
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupRegisterEvent(HGROUP hGroup, HANDLE hEvent,
	DWORD cEventRegistration, PEER_GROUP_EVENT_REGISTRATION *pEventRegistrations,
	HPEEREVENT *phPeerEvent);

/*
 * End a registration and its queue. After return the event object is never signalled for it again.
 *
 * Returns  S_OK; E_INVALIDARG
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupUnregisterEvent(HPEEREVENT hPeerEvent);

/*
 * Take the oldest queued event. Never blocks.
 *
 * Returns  S_OK                  *ppEventData is one block for PeerFreeData
 *          PEER_S_NO_EVENT_DATA  the queue is empty; *ppEventData is NULL
 *          E_INVALIDARG; E_OUTOFMEMORY
 * Source   docs/p2p.md, events
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupGetEventData(
	HPEEREVENT hPeerEvent, PPEER_GROUP_EVENT_DATA *ppEventData);

/* ---- grouping: records and database (not served here) ----------------------------------- */

/* Each returns E_NOTIMPL always; out-parameters are NULL or zero. docs/p2p-differences.md. */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupGetRecord(
	HGROUP hGroup, const GUID *pRecordId, PPEER_RECORD *ppRecord);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupAddRecord(
	HGROUP hGroup, PPEER_RECORD pRecord, GUID *pRecordId);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupUpdateRecord(HGROUP hGroup, PPEER_RECORD pRecord);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupDeleteRecord(HGROUP hGroup, const GUID *pRecordId);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupEnumRecords(
	HGROUP hGroup, const GUID *pRecordType, HPEERENUM *phPeerEnum);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupSearchRecords(
	HGROUP hGroup, PCWSTR pwzCriteria, HPEERENUM *phPeerEnum);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupExportDatabase(HGROUP hGroup, PCWSTR pwzFilePath);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupImportDatabase(HGROUP hGroup, PCWSTR pwzFilePath);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupResumePasswordAuthentication(
	HGROUP hGroup, HPEEREVENT hPeerEventHandle);

/* ---- grouping: peer time ---------------------------------------------------------------- */

/*
 * Convert between this machine's UTC and the group's clock (their offset is 0 here). In and out may
 * be one variable.
 *
 * Returns  S_OK; E_INVALIDARG; PEER_E_GROUP_NOT_READY; PEER_E_INVALID_GROUP
 * Source   docs/p2p.md, peer time
 */
PEERHUB_P2P_API HRESULT WINAPI PeerGroupPeerTimeToUniversalTime(
	HGROUP hGroup, FILETIME *pftPeerTime, FILETIME *pftUniversalTime);
PEERHUB_P2P_API HRESULT WINAPI PeerGroupUniversalTimeToPeerTime(
	HGROUP hGroup, FILETIME *pftUniversalTime, FILETIME *pftPeerTime);

#ifdef __cplusplus
}
#endif
#endif
