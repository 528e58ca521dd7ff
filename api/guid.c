/* The storage of the GUIDs that p2p.h declares, for clients without INITGUID. */
#define INITGUID
#include "p2p.h"
