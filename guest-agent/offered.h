/* guest-agent/offered.h - an offer of the host, in the forms in which the engine wants it. */
#pragma once

#include "proto/channel.pb-c.h"
#include "shm/keys.h"

Moult__Offer *offered_copy(const Moult__Offer *offer);
/* The keys in @dir; UNTRUSTED: there are none, or one cannot be read, so nothing is accepted. */
TrustStore *offered_trust(const char *dir, GError **error);
/* NULL-terminated strings of the selection, NULL: everything; the elements are NUL-free (content gate). */
GStrv offered_selection(const Moult__Offer *offer);
