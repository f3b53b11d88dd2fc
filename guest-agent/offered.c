/* guest-agent/offered.c - an offer of the host, in the forms in which the engine wants it. */
#include "guest-agent/offered.h"

#include "common/error.h"

Moult__Offer *offered_copy(const Moult__Offer *offer)
{
        size_t len = moult__offer__get_packed_size(offer);
        g_autofree guint8 *buf = g_malloc(MAX(len, 1));

        moult__offer__pack(offer, buf);
        return moult__offer__unpack(NULL, len, buf);
}

TrustStore *offered_trust(const char *dir, GError **error)
{
        g_autoptr(GError) local = NULL;
        g_autoptr(TrustStore) trust = trust_store_load(dir, &local);

        if (!trust) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "the trusted keys cannot be read, so nothing is accepted: %s", local->message);
                return NULL;
        }
        if (trust_store_count(trust) == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "this guest trusts no key, so nothing is accepted: put the release key's .pub "
                            "file into %s",
                            dir);
                return NULL;
        }
        return g_steal_pointer(&trust);
}

GStrv offered_selection(const Moult__Offer *offer)
{
        GStrv list;

        if (offer->n_selection == 0)
                return NULL;
        list = g_new0(char *, offer->n_selection + 1);
        for (size_t i = 0; i < offer->n_selection; i++)
                list[i] = g_strndup((const char *)offer->selection[i].data, offer->selection[i].len);
        return list;
}
