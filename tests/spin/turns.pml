/* tests/spin/turns.pml - what has its turn: a create, a merge, a rollback; what an earlier moultd has begun first. */
/* k: the snapshot; j: the merge; l, nx: the present top and the next; stand: what QEMU had, when it was asked. */
#define QEMU_NONE   0
#define QEMU_LAYER  1
#define QEMU_NEXT   2
#define QEMU_OTHER  3
#define QEMU_PATH   4

proctype Turns()
{
	byte k, j, l, nx, stand, looked;
	bool first, failed, put, was_off, wants_room;

again:
	{
		atomic {
			(alive);
			/* What an earlier moultd has begun. */
			d_step {
				k = 0;
				do
				:: k < snapshots && s_st[k] != S_PLANNED && s_st[k] != S_STOPPED && s_st[k] != S_BACK -> k++
				:: else -> break
				od;
				j = 0;
				do
				:: j < MAXJ && m_st[j] != M_PLANNED && m_st[j] != M_COMPARED -> j++
				:: else -> break
				od;
				if
				:: k < snapshots -> l = s_layer[k]; nx = s_next[k]; j = 0
				:: else
				fi
			};
			if
			:: k < snapshots && s_st[k] != S_BACK -> goto settle_create
			:: k < snapshots && s_st[k] == S_BACK -> goto look_rollback
			:: k >= snapshots && j < MAXJ -> k = 0; goto resume_merge
			:: else
			fi
		}
idle:
		atomic {
			skip;
			d_step { k = 0; j = 0; l = 0; nx = 0; stand = 0; looked = 0; first = false; failed = false; put = false; was_off = false;
				wants_room = false; turn_busy = false }
			if
			:: d_step { MAY_BEGIN && snapshots < MAXK && born < MAXF - 2 -> ops++; turn_busy = true; wants_room = true }
				goto merge
			:: d_step { MAY_BEGIN && born < MAXF - 1 -> ops++; turn_busy = true }
				goto merge
			:: d_step { MAY_BEGIN && snapshots < MAXK && born < MAXF - 3 && !runs -> ops++; turn_busy = true }
				goto rollback
			fi
		}

#include "create.pml"
#include "merge.pml"
#include "rollback.pml"
	} unless { (!alive) };
	d_step { k = 0; j = 0; l = 0; nx = 0; stand = 0; looked = 0; first = false; failed = false; put = false; was_off = false;
		wants_room = false; turn_busy = false; parked++ }
	(parked == 0);
	goto again
}
