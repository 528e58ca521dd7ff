/*
 * HRESULTs are made here and nowhere else: one table from negative errno, one table of names.
 */
#ifndef PEERHUB_API_HRESULT_H
#define PEERHUB_API_HRESULT_H

#include "peerhub/extras.h"

/* 0 and counts are S_OK; an errno that is not in the table is E_FAIL. */
HRESULT hresult_from_status(int status);

/* For ph_open, ph_send and ph_close, whose -ENOENT means a connection and whose -ESHUTDOWN means
 * that the group has ended; everything else as above. */
HRESULT hresult_from_connection_status(int status);

#endif
