/* host-service/release/build_entry.c - one item of the plan as an entry of the manifest. */
#include "host-service/release/build_entry.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "shm/entry_metadata.h"

static ProtobufCBinaryData borrow(const char *text)
{
        return (ProtobufCBinaryData){strlen(text), (uint8_t *)(gpointer)text};
}

static void set_xattrs(BuildEntry *e, const struct tree_node *n)
{
        if (n->n_xattrs == 0)
                return;
        e->xattr_storage = g_new(Moult__Xattr, n->n_xattrs);
        e->xattr_table = g_new(Moult__Xattr *, n->n_xattrs);
        for (unsigned i = 0; i < n->n_xattrs; i++) {
                gsize len;
                gconstpointer value = g_bytes_get_data(n->xattrs[i].value, &len);

                moult__xattr__init(&e->xattr_storage[i]);
                e->xattr_storage[i].name = borrow(n->xattrs[i].name);
                e->xattr_storage[i].value = (ProtobufCBinaryData){len, (uint8_t *)(gpointer)value};
                e->xattr_table[i] = &e->xattr_storage[i];
        }
        e->message.n_xattrs = n->n_xattrs;
        e->message.xattrs = e->xattr_table;
}

static void set_metadata(BuildEntry *e, const BuildTree *new_tree, const struct tree_node *n, gssize index)
{
        Moult__Entry *m = &e->message;

        if (S_ISREG(n->mode) && n->leader != index) {
                /* Owner, mode and the rest are the file's, and stand at its first name. */
                m->type = MOULT__ENTRY_TYPE__ENTRY_HARDLINK;
                m->link_target = borrow(build_tree_node(new_tree, n->leader)->path);
                return;
        }
        m->type = entry_type_of_mode(n->mode);
        m->mode = S_ISLNK(n->mode) ? 0 : n->mode & 07777;
        m->uid = n->uid;
        m->gid = n->gid;
        m->mtime_s = n->mtime.tv_sec;
        m->mtime_ns = (uint32_t)n->mtime.tv_nsec;
        if (S_ISLNK(n->mode))
                m->link_target = borrow(n->link_text);
        if (S_ISCHR(n->mode) || S_ISBLK(n->mode)) {
                m->dev_major = major(n->rdev);
                m->dev_minor = minor(n->rdev);
        }
        m->conffile = n->conffile && S_ISREG(n->mode);
        set_xattrs(e, n);
}

/* What the guest must have there now: the old bytes of a file, or, for what has none, something at all. A
 * deletion needs both: what somebody has changed is not deleted unseen, and what is not there is drift. */
static void set_precondition(BuildEntry *e, const BuildTree *old_tree, const struct tree_node *o)
{
        const struct tree_node *first = build_tree_node(old_tree, o->leader);
        bool has_digest = S_ISREG(o->mode) && first->has_digest;

        if (has_digest) {
                e->old_digest = (ProtobufCBinaryData){DIGEST_SIZE, (uint8_t *)first->digest};
                e->message.n_old_digests = 1;
                e->message.old_digests = &e->old_digest;
        }
        e->message.old_must_exist = !has_digest || e->message.type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
}

void build_entry_init(BuildEntry *e, const BuildTree *new_tree, const BuildTree *old_tree,
                      const struct build_item *item, Moult__Delivery delivery)
{
        *e = (BuildEntry){0};
        moult__entry__init(&e->message);
        e->message.path = borrow(build_item_path(new_tree, old_tree, item));
        e->message.delivery = delivery;
        if (item->new_index >= 0)
                set_metadata(e, new_tree, build_tree_node(new_tree, (unsigned)item->new_index),
                             item->new_index);
        else
                e->message.type = MOULT__ENTRY_TYPE__ENTRY_DELETE;
        if (item->old_index >= 0)
                set_precondition(e, old_tree, build_tree_node(old_tree, (unsigned)item->old_index));
}

const Moult__Entry *build_entry_message(const BuildEntry *e)
{
        return &e->message;
}

void build_entry_clear(BuildEntry *e)
{
        g_free(e->xattr_storage);
        g_free(e->xattr_table);
        *e = (BuildEntry){0};
}
