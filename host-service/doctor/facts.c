/* host-service/doctor/facts.c - gathers what the doctor's checks look at. */
#include "host-service/doctor/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "host-service/catalogue/releases.h"
#include "host-service/catalogue/tokens.h"
#include "shm/keys.h"

#define PUSHES_LOOKED_AT 16
#define WEEK_US          (7 * G_TIME_SPAN_DAY)

static guint mode_of(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static gboolean others_pass(const char *dir)
{
        g_autofree char *at = g_path_get_dirname(dir);

        while (!g_str_equal(at, "/") && !g_str_equal(at, ".")) {
                char *up;

                if (!(mode_of(at) & 01))
                        return FALSE;
                up = g_path_get_dirname(at);
                g_free(at);
                at = up;
        }
        return TRUE;
}

static void look_at_state(const struct facts_sources *s, struct host_facts *f)
{
        g_autofree char *packs = g_build_filename(s->state_dir, "packs", NULL);
        scoped_fd int fd = open(packs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct host_disk_usage disk = {0};
        int flags;

        f->state_dir = g_strdup(s->state_dir);
        f->state_mode = mode_of(s->state_dir);
        f->packs_mode = mode_of(packs);
        f->others_reach_state = others_pass(s->state_dir);
        f->wants_immutable = s->wants_immutable;
        f->can_be_immutable = fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
        if (s->env->disk->usage && s->env->disk->usage(s->env->self, &disk, NULL)) {
                f->free_bytes = disk.free_bytes;
                f->size_bytes = disk.size_bytes;
        }
}

static void look_at_trust(const struct facts_sources *s, struct host_facts *f)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = trust_store_load(s->trust_dir, &error);

        f->trust_dir = g_strdup(s->trust_dir);
        f->trusted_keys = trust ? trust_store_count(trust) : 0;
        f->trust_problem = error ? g_strdup(error->message) : NULL;
}

static gboolean look_at_vms(const struct facts_sources *s, struct host_facts *f, GError **error)
{
        g_autoptr(GPtrArray) vms = catalogue_vm_list(s->catalogue, error);

        if (!vms)
                return FALSE;
        f->vms = vms->len;
        f->listens_for_agents = s->listens_for_agents;
        for (guint i = 0; i < vms->len; i++) {
                const VmRecord *vm = vms->pdata[i];
                struct guest_status status = {0};

                s->guests->ops->status(s->guests->self, vm->name, &status);
                f->vms_away += status.connected ? 0 : 1;
                f->vms_network += vm->agent ? 0 : 1;
        }
        return TRUE;
}

static gboolean look_at_packs(const struct facts_sources *s, struct host_facts *f, GError **error)
{
        g_autoptr(GPtrArray) releases = catalogue_release_list(s->catalogue, NULL, error);

        for (guint i = 0; releases && i < releases->len; i++) {
                const ReleaseRecord *r = releases->pdata[i];
                g_autofree char *path = s->env->store->path(s->env->self, r->file);

                if (access(path, F_OK) < 0)
                        g_ptr_array_add(f->packs_missing, g_strdup_printf("%s %s", r->name, r->version));
        }
        return releases != NULL;
}

static gboolean look_at_tokens(const struct facts_sources *s, struct host_facts *f, GError **error)
{
        g_autoptr(GPtrArray) tokens = catalogue_token_list(s->catalogue, error);
        gint64 now_us = host_wall_us(s->env);

        for (guint i = 0; tokens && i < tokens->len; i++) {
                const TokenRecord *t = tokens->pdata[i];

                if (!t->revoked_us && t->expires_us > now_us && t->expires_us < now_us + WEEK_US)
                        g_ptr_array_add(f->tokens_ending, g_strdup(t->name));
        }
        return tokens != NULL;
}

gboolean facts_of_host(const struct facts_sources *s, struct host_facts *ret, GError **error)
{
        struct rlimit limit = {0};

        ret->packs_missing = g_ptr_array_new_with_free_func(g_free);
        ret->tokens_ending = g_ptr_array_new_with_free_func(g_free);
        look_at_state(s, ret);
        look_at_trust(s, ret);
        getrlimit(RLIMIT_NOFILE, &limit);
        ret->open_files_max = limit.rlim_cur;
        ret->audit_problem = s->audit ? audit_log_problem(s->audit) : NULL;
        return look_at_vms(s, ret, error) && look_at_packs(s, ret, error) && look_at_tokens(s, ret, error);
}

static SocketState look_at_socket(const char *path)
{
        struct stat st;

        if (!path)
                return SOCKET_NONE;
        if (stat(path, &st) < 0)
                return errno == EACCES ? SOCKET_FORBIDDEN : SOCKET_MISSING;
        if (!S_ISSOCK(st.st_mode))
                return SOCKET_OTHER;
        return access(path, W_OK) == 0 ? SOCKET_THERE : SOCKET_FORBIDDEN;
}

gboolean facts_of_vm(const struct facts_sources *s, const char *vm, struct vm_facts *ret, GError **error)
{
        struct guest_status status = {0};
        g_autoptr(GPtrArray) pushes = NULL;

        ret->vm = catalogue_vm_get(s->catalogue, vm, error);
        pushes = ret->vm ? catalogue_push_list_vm(s->catalogue, vm, PUSHES_LOOKED_AT, error) : NULL;
        if (!pushes)
                return FALSE;
        s->guests->ops->status(s->guests->self, vm, &status);
        ret->connected = status.connected;
        ret->qmp_answers = status.qmp;
        ret->away = g_strdup(status.away);
        ret->agent = look_at_socket(ret->vm->agent);
        ret->qmp = look_at_socket(ret->vm->qmp);
        ret->now_us = host_wall_us(s->env);
        for (guint i = 0; i < pushes->len; i++) {
                const PushRecord *p = pushes->pdata[i];

                if (!push_state_is_final(p->state))
                        continue;
                ret->window_left = ret->window_left || p->plug;
                if (!ret->last)
                        ret->last = catalogue_push_get(s->catalogue, p->operation, vm, NULL);
        }
        return TRUE;
}

gboolean facts_for_guest(const struct facts_sources *s, struct guest_facts *ret, GError **error)
{
        g_autoptr(GPtrArray) releases = catalogue_release_list(s->catalogue, NULL, error);

        ret->releases = doctor_releases_new();
        for (guint i = 0; releases && i < releases->len; i++) {
                const ReleaseRecord *r = releases->pdata[i];
                struct doctor_release *one = g_new0(struct doctor_release, 1);

                one->name = g_strdup_printf("%s %s", r->name, r->version);
                memcpy(one->key_id, r->key_id, sizeof one->key_id);
                g_ptr_array_add(ret->releases, one);
        }
        return releases != NULL;
}
