/*
 * Event objects: CreateEventW and the waits of win32.h, for the layers that signal them. The client
 * owns the handle; a reference keeps the object usable (and silent) after the client closed it.
 */
#ifndef PEERHUB_API_EVENT_OBJECT_H
#define PEERHUB_API_EVENT_OBJECT_H

#include "peerhub/win32.h"

struct event_object;

/* The object behind a handle with a reference, or NULL: not an event object. */
struct event_object *event_object_get(HANDLE handle);

/* SetEvent by reference: cannot fail, never blocks on a client; also after CloseHandle. Callbacks of
 * registered waits run on pool threads, never here. Any thread. */
void event_object_signal(struct event_object *object);

void event_object_put(struct event_object *object);

#endif
