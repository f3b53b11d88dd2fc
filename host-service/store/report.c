/* host-service/store/report.c - findings: their names, what to do about each, and what they come to. */
#include "host-service/store/report.h"

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/json.h"

static const struct {
        const char *name, *action;
        gboolean harmless;
} kinds[FINDING_MAX] = {
        [FINDING_PACK_MISSING] = {"pack-missing",
                                  "the release cannot be pushed; what VMs run is unaffected: remove the "
                                  "release (moult release remove) and import its pack again",
                                  FALSE},
        [FINDING_PACK_DAMAGED] = {"pack-damaged",
                                  "do not push it (guests would refuse the damaged bytes); what VMs run is "
                                  "unaffected: remove the release (moult release remove), check the disk, "
                                  "and import its pack again",
                                  FALSE},
        [FINDING_PACK_UNTRUSTED] = {"pack-untrusted",
                                    "if the key was withdrawn on purpose, remove the release (moult release "
                                    "remove); else put the signer's public key back into the trust directory",
                                    FALSE},
        [FINDING_PACK_OPEN] = {"pack-writable",
                               "a pack that changes while a VM maps it ends that VM: find out who changed "
                               "the mode, then chmod 0444 the file",
                               FALSE},
        [FINDING_CATALOGUE_DIFFERS] = {"catalogue-differs",
                                       "the pack is whole and its row is wrong: remove the release (moult "
                                       "release remove) and import its pack again",
                                       FALSE},
        [FINDING_CATALOGUE_DAMAGED] = {"catalogue-damaged",
                                       "stop moultd, keep a copy of catalogue.db, and restore it from a "
                                       "backup or with sqlite3's .recover; packs are unaffected",
                                       FALSE},
        [FINDING_LIST_DAMAGED] = {"list-damaged",
                                  "no host can pull the release; those that have it are unaffected: delete "
                                  "this object from the shared store and push the release again from a host "
                                  "that has it (moult store push)",
                                  FALSE},
        [FINDING_CHUNK_MISSING] =
                {"chunk-missing",
                 "hosts that lack the chunk cannot pull the release; those that have it are "
                 "unaffected: push the release again from one of them (moult store push), "
                 "which puts back what is missing",
                 FALSE},
        [FINDING_CHUNK_DAMAGED] = {"chunk-damaged",
                                   "hosts that lack the chunk cannot pull the release, and take no wrong "
                                   "bytes: delete this object from the shared store and push the release "
                                   "again from a host that has it (moult store push)",
                                   FALSE},
        [FINDING_LEFT_OVER] = {"left-over", "moult store gc removes it, and so does the next start of moultd",
                               TRUE},
};

const char *finding_name(FindingKind k)
{
        return (guint)k < FINDING_MAX ? kinds[k].name : "unknown";
}

gboolean finding_is_harmless(FindingKind k)
{
        return kinds[k].harmless;
}

void finding_free(Finding *f)
{
        if (!f)
                return;
        g_free(f->file);
        g_free(f->name);
        g_free(f->version);
        g_free(f->text);
        g_free(f);
}

Finding *finding_new(FindingKind kind, const ReleaseRecord *r, const char *file, const char *text)
{
        Finding *f = g_new0(Finding, 1);

        f->kind = kind;
        f->file = g_strdup(file);
        f->text = g_strdup(text);
        if (r) {
                f->release = r->id;
                f->name = g_strdup(r->name);
                f->version = g_strdup(r->version);
        }
        return f;
}

static JsonArray *vms_json(const Finding *f, const GPtrArray *users)
{
        JsonArray *a = json_array_new();

        for (guint i = 0; users && i < users->len; i++) {
                const ReleaseUser *u = users->pdata[i];
                JsonObject *o;

                if (f->release == 0 || u->release != f->release)
                        continue;
                o = json_object_new();
                json_object_set_string_member(o, "vm", u->vm);
                json_object_set_string_member(o, "use", release_use_name(u->use));
                json_array_add_object_element(a, o);
        }
        return a;
}

JsonObject *finding_to_json(const Finding *f, const GPtrArray *users)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "kind", finding_name(f->kind));
        json_object_set_boolean_member(o, "harmless", finding_is_harmless(f->kind));
        json_object_set_text(o, "file", f->file);
        json_object_set_text(o, "release", f->name);
        json_object_set_text(o, "version", f->version);
        json_object_set_text(o, "text", f->text);
        json_object_set_array_member(o, "vms", vms_json(f, users));
        json_object_set_string_member(o, "action", kinds[f->kind].action);
        return o;
}

GError *findings_error(const GPtrArray *findings)
{
        guint bad = 0, untrusted = 0;
        const Finding *first = NULL;

        for (guint i = 0; i < findings->len; i++) {
                const Finding *f = findings->pdata[i];

                if (finding_is_harmless(f->kind))
                        continue;
                bad++;
                untrusted += f->kind == FINDING_PACK_UNTRUSTED;
                if (!first || (first->kind == FINDING_PACK_UNTRUSTED && f->kind != FINDING_PACK_UNTRUSTED))
                        first = f;
        }
        if (!first)
                return NULL;
        return g_error_new(MOULT_ERROR, bad == untrusted ? MOULT_ERROR_UNTRUSTED : MOULT_ERROR_CORRUPT,
                           "the store is not sound: %u finding%s; the first: %s%s%s%s%s", bad,
                           bad == 1 ? "" : "s", first->name ? first->name : "", first->name ? " " : "",
                           first->name ? first->version : "", first->name ? ": " : "", first->text);
}

void findings_tell(const GPtrArray *findings)
{
        for (guint i = 0; i < findings->len; i++) {
                const Finding *f = findings->pdata[i];

                if (!finding_is_harmless(f->kind))
                        event_log(EVENT_ERROR, "store-damaged", f->text, "kind", finding_name(f->kind),
                                  "release", f->name ? f->name : "", "version", f->version ? f->version : "",
                                  "file", f->file ? f->file : "", NULL);
        }
}
