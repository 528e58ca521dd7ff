/* Is Grouping started? true between the first PeerGroupStartup and the last PeerGroupShutdown. */
#ifndef PEERHUB_API_RUNTIME_H
#define PEERHUB_API_RUNTIME_H

#include <stdbool.h>

bool runtime_is_started(void);

#endif
