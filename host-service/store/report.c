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
                 "which puts back what is missing. Of a layer: restore points that need it cannot be "
                 "fetched; an "
                 "upload of the layer puts it back, as long as its file is on the host that took it",
                 FALSE},
        [FINDING_CHUNK_DAMAGED] =
                {"chunk-damaged",
                 "hosts that lack the chunk cannot pull the release, and take no wrong "
                 "bytes: delete this object from the shared store and push the release "
                 "again from a host that has it (moult store push). Of a layer: restore "
                 "points that need it cannot be fetched; delete this object, and an upload of "
                 "the layer puts it back, as long as its file is on the host that took it",
                 FALSE},
        [FINDING_LAYER_MISSING] =
                {"layer-missing",
                 "restore points that need the layer cannot be fetched, all others can: an "
                 "upload of the layer puts it back, as long as its file is on the host that "
                 "took it",
                 FALSE},
        [FINDING_LAYER_DAMAGED] =
                {"layer-damaged",
                 "restore points that need the layer cannot be fetched, all others can, and no "
                 "wrong bytes are taken: an upload of the layer replaces it, as long as its "
                 "file is on the host that took it",
                 FALSE},
        [FINDING_SNAPSHOT_DAMAGED] =
                {"snapshot-damaged",
                 "the restore point cannot be fetched by this manifest; its layers are "
                 "unaffected, and nothing is collected until it is mended: put the manifest "
                 "again from the host that took it, or delete this object",
                 FALSE},
        [FINDING_MANIFEST_MISSING] =
                {"manifest-missing",
                 "the restore point cannot be fetched by other hosts, and its layers may be collected: put "
                 "the manifest again (moult snapshot upload)",
                 FALSE},
        [FINDING_FILE_MISSING] =
                {"file-missing",
                 "what is in the store is unaffected: put the file back under its name, if it was moved; "
                 "restore points that are whole in the store can be rolled back to and exported from there",
                 FALSE},
        [FINDING_FILE_DAMAGED] =
                {"file-damaged",
                 "what is in the store is unaffected: if somebody has the file open, end that; else check "
                 "this disk, and roll back or export from the store. A running VM whose chain has the file "
                 "may read wrong data: take a copy of what matters from inside of it",
                 FALSE},
        [FINDING_FILE_DIFFERS] =
                {"file-differs",
                 "somebody else changed the chain of the disk: find out who. A VM that runs is unaffected "
                 "until it is started anew; what is in the store is unaffected: export from there",
                 FALSE},
        [FINDING_BASE_CHANGED] =
                {"base-changed",
                 "what stands on the image cannot be trusted here, in VMs that run neither: put the image "
                 "back as it was, with its times. What is in the store is unaffected",
                 FALSE},
        [FINDING_STATE_DIFFERS] =
                {"state-differs",
                 "which of both is right is not known: keep both, export the disk from each, and compare "
                 "them with what else is known of that instant; check this host's disk and memory",
                 FALSE},
        [FINDING_SNAPSHOT_LOST] =
                {"snapshot-lost",
                 "the restore point cannot be had any more, others can: moult snapshot remove takes it from "
                 "the list",
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
