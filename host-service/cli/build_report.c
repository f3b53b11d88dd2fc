/* host-service/cli/build_report.c - what a build or a capture tells when it is done. */
#include "host-service/cli/build_report.h"

#include <string.h>

#include "host-service/cli/output.h"
#include "host-service/cli/progress.h"
#include "host-service/cli/text.h"

void build_report_progress(const struct release_build_progress *p, gpointer user)
{
        static const char *const phases[] = {
                [RELEASE_BUILD_SCAN] = "scanning",
                [RELEASE_BUILD_HASH] = "comparing",
                [RELEASE_BUILD_WRITE] = "packing",
                [RELEASE_BUILD_DELTA] = "making deltas",
        };

        progress_update(user, "", phases[p->phase], p->bytes_done, p->bytes_total);
}

static JsonArray *left_out_array(const struct release_build_report *r)
{
        JsonArray *list = json_array_new();

        for (guint i = 0; i < r->left_out->len; i++) {
                const struct build_left_out *l = g_ptr_array_index(r->left_out, i);
                g_autofree char *path = text_safe(l->path, strlen(l->path));
                JsonObject *one = json_object_new();

                json_object_set_string_member(one, "path", path);
                json_object_set_string_member(one, "reason", l->reason);
                json_array_add_object_element(list, one);
        }
        return list;
}

static JsonObject *deltas_object(const struct build_delta_report *r)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "frames", r->frames);
        json_object_set_int_member(o, "files", r->files);
        json_object_set_int_member(o, "bytes", (gint64)r->bytes);
        json_object_set_int_member(o, "full_bytes", (gint64)r->full_bytes);
        return o;
}

static JsonNode *report_node(const BuildCommandLine *o, const struct release_build_report *r)
{
        JsonObject *root = json_object_new(), *changes = json_object_new();
        JsonArray *warnings = json_array_new();
        char hex[2 * DIGEST_SIZE + 1];

        digest_to_hex(r->manifest_digest, hex);
        json_object_set_string_member(root, "file", o->output);
        json_object_set_string_member(root, "name", o->name);
        json_object_set_string_member(root, "version", o->version);
        json_object_set_string_member(root, "manifest_digest", hex);
        json_object_set_int_member(root, "entries", r->entries);
        json_object_set_int_member(root, "unchanged", r->unchanged);
        for (unsigned i = 0; i < BUILD_CHANGES; i++)
                json_object_set_int_member(changes, build_change_name(i), r->changes[i]);
        json_object_set_object_member(root, "changes", changes);
        json_object_set_int_member(root, "bytes_before", (gint64)r->bytes_before);
        json_object_set_int_member(root, "bytes_after", (gint64)r->bytes_after);
        json_object_set_int_member(root, "pack_bytes", (gint64)r->pack_bytes);
        json_object_set_object_member(root, "deltas", deltas_object(&r->deltas));
        json_object_set_int_member(root, "signatures", o->build.n_keys);
        for (guint i = 0; i < r->warnings->len; i++) {
                g_autofree char *text = text_safe_lines(g_ptr_array_index(r->warnings, i));

                json_array_add_string_element(warnings, text);
        }
        json_object_set_array_member(root, "warnings", warnings);
        if (o->build.capture)
                json_object_set_array_member(root, "left_out", left_out_array(r));
        if (o->listing) {
                JsonArray *list = json_array_new();

                for (guint i = 0; i < r->listing->len; i++) {
                        const struct release_build_change *c = g_ptr_array_index(r->listing, i);
                        g_autofree char *path = text_safe(c->path, strlen(c->path));
                        JsonObject *one = json_object_new();

                        json_object_set_string_member(one, "change", build_change_name(c->change));
                        json_object_set_string_member(one, "path", path);
                        json_array_add_object_element(list, one);
                }
                json_object_set_array_member(root, "listing", list);
        }
        JsonNode *node = json_node_init_object(json_node_alloc(), root);
        json_object_unref(root);
        return node;
}

#define LEFT_OUT_SHOWN 12

/* Whoever captures must see what the release does not have: some of it may be just what was meant. */
static void print_left_out(Cli *cli, const BuildCommandLine *o, const struct release_build_report *r)
{
        if (!o->build.capture || r->left_out->len == 0)
                return;
        output_words(cli, "  %u that differ belong to one machine and are left out:\n", r->left_out->len);
        for (guint i = 0; i < r->left_out->len; i++) {
                const struct build_left_out *l = g_ptr_array_index(r->left_out, i);
                g_autofree char *path = text_safe(l->path, strlen(l->path));

                if (i == LEFT_OUT_SHOWN && !o->listing) {
                        output_words(cli, "    and %u more (--list shows all)\n", r->left_out->len - i);
                        return;
                }
                output_words(cli, "    /%s %s\n", path, l->reason);
        }
}

static void print_words(Cli *cli, const BuildCommandLine *o, const struct release_build_report *r)
{
        g_autofree char *before = text_bytes(r->bytes_before);
        g_autofree char *after = text_bytes(r->bytes_after);
        g_autofree char *pack = text_bytes(r->pack_bytes);
        char hex[2 * DIGEST_SIZE + 1];

        for (guint i = 0; o->listing && i < r->listing->len; i++) {
                const struct release_build_change *c = g_ptr_array_index(r->listing, i);
                g_autofree char *path = text_safe(c->path, strlen(c->path));

                output_words(cli, "%-9s /%s\n", build_change_name(c->change), path);
        }
        digest_to_hex(r->manifest_digest, hex);
        output_words(cli, "%s %s -> %s\n", o->name, o->version, o->output);
        output_words(cli, "  %u changed, %u created, %u deleted, %u with other metadata only%s\n",
                     r->changes[BUILD_CONTENT] + r->changes[BUILD_TYPE], r->changes[BUILD_CREATE],
                     r->changes[BUILD_DELETE], r->changes[BUILD_METADATA] + r->changes[BUILD_LINKS],
                     o->build.old_dir ? "" : " (no --from: everything is put in)");
        print_left_out(cli, o, r);
        if (o->build.old_dir)
                output_words(cli, "  %u unchanged entries are left out\n", r->unchanged);
        output_words(cli, "  %s before, %s after; the pack has %s\n", before, after, pack);
        if (r->deltas.frames > 0) {
                g_autofree char *delta = text_bytes(r->deltas.bytes);
                g_autofree char *full = text_bytes(r->deltas.full_bytes);

                output_words(cli, "  over a network %s of deltas stand for %s of it\n", delta, full);
        }
        output_words(cli, "  manifest %s, %u %s\n", hex, o->build.n_keys,
                     o->build.n_keys == 1 ? "signature" : "signatures");
        for (guint i = 0; i < r->warnings->len; i++) {
                g_autofree char *text = text_safe_lines(g_ptr_array_index(r->warnings, i));

                fprintf(cli->err, "moult: warning: %s\n", text);
        }
}

void build_report_print(Cli *cli, const BuildCommandLine *o, const struct release_build_report *r)
{
        g_autoptr(JsonNode) node = report_node(o, r);

        if (!output_machine(cli, node))
                print_words(cli, o, r);
}
