/* tests/spin/chain.pml - the files of one disk: snapshots, merges, rollbacks, uploads and the sweep, with deaths of moultd and of QEMU
 * between any two steps. docs/snapshots.md has the tables that this follows.
 *
 * A write of the guest is a bit; a file has the bits that were written to it, and a name of what it stands on. So "what the disk was" is a
 * set, and what is lost, or seen too early, is a set that differs. Files have their numbers from birth and never another: number 1 is the
 * base. What is one step here is one step of the code: a transaction of the catalogue, a system call, an answer of QEMU's, or a look and the
 * one system call right after it (README.md says what that leaves out).
 *
 * BUG=N in the environment puts in one bug (the list is in run.py): each must lead to a violation. */
#define NONE 0
#define BASE 1
#define MAXF 10 /* numbers of files */
#define MAXK 5 /* snapshots */
#define MAXJ 3 /* merges */

#define CHAIN_MAX 4

c_decl {
\#include <stdio.h>
\#include <stdlib.h>
static int bug, ops_max, deaths_max, falls_max, writes_max, uploads_max, begin;
}
#define BUG(n) c_expr { bug == n }
#define MAY_BEGIN c_expr { now.ops < ops_max }
#define MAY_DIE   c_expr { now.deaths < deaths_max }
#define MAY_FALL  c_expr { now.falls < falls_max }
#define MAY_LOAD  c_expr { now.uploads < uploads_max }
#define MAY_WRITE c_expr { now.writes < writes_max }

/* ---- the disk's directory ---- */
bool there[MAXF];
byte delta[MAXF], on[MAXF]; /* on: what the header names */
byte path;                  /* the well-known path: whose inode */
byte born = BASE;           /* the last number that was given */

/* ---- the virtual machine ---- */
bool runs, stopped, by_path; /* by_path: QEMU has its top open by the well-known path */
byte top;
byte q_on[MAXF];  /* what QEMU's node of a file stands on */
bool node[MAXF];  /* QEMU has it open: its lock is on it */
byte live, writes; /* what the guest must find */
byte falls;

/* ---- the catalogue ---- */
#define L_MADE   1
#define L_SEALED 2
byte l_st[MAXF], l_file[MAXF], l_on[MAXF], l_par[MAXF], l_fold[MAXF];
bool l_up[MAXF];

#define S_PLANNED 1
#define S_TAKEN   2
#define S_STOPPED 3
#define S_BACK    4 /* planned, of a rollback */
byte s_st[MAXK], s_layer[MAXK], s_next[MAXK], s_on[MAXK], s_to[MAXK], s_want[MAXK];
bool s_man[MAXK], s_skip[MAXK];
byte snapshots;

#define M_PLANNED  1
#define M_COMPARED 2
#define M_RECORDED 3
#define M_FOREIGN  4
byte m_st[MAXJ], m_up[MAXJ], m_upf[MAXJ], m_lo[MAXJ], m_lof[MAXJ], m_file[MAXJ], m_below[MAXJ], m_top[MAXJ];

/* ---- the store ---- */
byte st[MAXF]; /* what the map of a layer shows */

/* ---- moultd ---- */
bool alive = true;
byte refs[MAXF];
bool sweep_due, turn_busy, upload_busy, sweep_busy;
byte deaths, parked, ops, uploads;

/* Of no step but the present one. */
hidden byte x, y, c, n, i;
hidden byte good, is_listed;
hidden short range;

/* What a start from file f finds: c, over n files; good: all of them are there. */
inline by_headers(f)
{
	x = f; c = 0; n = 0; good = true;
	do
	:: x == BASE -> n++; break
	:: x == NONE || !there[x] || n > CHAIN_MAX -> good = false; break
	:: else -> c = c | delta[x]; n++; x = on[x]
	od
}

/* What the catalogue's rows say of a layer: c, over n files; good: all are here. */
inline by_rows(f)
{
	x = f; c = 0; n = 0; good = true;
	do
	:: x == BASE -> n++; break
	:: x == NONE || l_file[x] == NONE -> good = false; break
	:: else -> c = c | delta[l_file[x]]; n++; x = l_on[x]
	od
}

/* What the store has of a layer and its parents. */
inline by_store(f)
{
	x = f; c = 0; good = l_up[f];
	do
	:: x == BASE || x == NONE -> break
	:: else ->
		if
		:: l_up[x] -> c = c | st[x]
		:: !l_up[x] && l_fold[x] != NONE && l_up[l_fold[x]]
		:: else -> good = false
		fi;
		x = l_par[x]
	od
}

/* The newest sealed layer whose file is f, or NONE: y. */
inline layer_of_file(f)
{
	y = NONE;
	i = BASE;
	do
	:: i < MAXF ->
		if
		:: l_st[i] == L_SEALED && l_file[i] == f && f != NONE -> y = i
		:: else
		fi;
		i++
	:: else -> break
	od
}

inline forget_unseen()
{
	/* QEMU's nodes that are not of its chain, and were asked to go: they go. */
	x = top; range = 0;
	do
	:: x == NONE || x == BASE -> break
	:: else -> range = range | (1 << x); x = q_on[x]
	od;
}

inline qemu_gone()
{
	runs = false; stopped = false; by_path = false; top = NONE;
	i = 0;
	do
	:: i < MAXF -> node[i] = false; q_on[i] = NONE; i++
	:: else -> break
	od;
	i = 0
}

inline qemu_starts()
{
	by_headers(path);
	assert(good);                 /* the well-known path names a complete chain */
	assert(n <= CHAIN_MAX);       /* of at most four files */
	assert(c == live);            /* which is what the guest has left */
	runs = true; by_path = true; top = path;
	x = path;
	do
	:: x == BASE -> break
	:: else -> node[x] = true; q_on[x] = on[x]; x = on[x]
	od;
	x = NONE
}

inline forget_merge(j)
{
	m_st[j] = 0; m_up[j] = 0; m_upf[j] = 0; m_lo[j] = 0; m_lof[j] = 0; m_file[j] = 0; m_top[j] = 0; m_below[j] = 0
}

inline unlink(f)
{
	assert(!node[f]);             /* what QEMU runs on is never removed */
	assert(path != f);
	there[f] = false; delta[f] = 0; on[f] = NONE
}

proctype Vm()
{
	do
	:: d_step { (alive || parked == 3) && runs && !stopped && MAY_WRITE ->
		assert(l_st[top] != L_SEALED);   /* a sealed layer is never written */
		delta[top] = delta[top] | (1 << writes);
		live = live | (1 << writes);
		writes++ }
	:: d_step { (alive || parked == 3) && runs && MAY_FALL -> falls++; qemu_gone() }
	:: d_step { (alive || parked == 3) && !runs -> qemu_starts() }
	od
}

#include "turns.pml"
#include "uploads.pml"
#include "sweep.pml"
#include "monitor.pml"
#include "begin.pml"

init
{
	c_code {
		const char *w = getenv("BUG");
		bug = w ? atoi(w) : 0;
		w = getenv("BOUNDS");
		if (!w || sscanf(w, "%d %d %d %d %d %d", &begin, &ops_max, &uploads_max, &writes_max, &deaths_max, &falls_max) != 6)
			Uerror("BOUNDS is not set");
	};
	d_step {
		there[BASE] = true;
		born = 2; there[2] = true; on[2] = BASE; path = 2;
		if
		:: c_expr { begin > 0 } -> two_restore_points()
		:: else
		fi;
		if
		:: c_expr { begin == 2 } -> rolled_back(1, 3)
		:: c_expr { begin == 3 } -> merged(); rolled_back(0, 2)
		:: else
		fi
	}
	/* What the store has by then. */
	if
	:: skip
	:: d_step { c_expr { begin > 0 } -> s_skip[0] = true }
	:: d_step { c_expr { begin > 0 } -> l_up[2] = true; st[2] = 1; s_man[0] = true }
	:: d_step { c_expr { begin > 0 } -> l_up[2] = true; st[2] = 1; s_man[0] = true; l_up[3] = true; st[3] = 2; s_man[1] = true }
	fi;
	atomic { run Vm(); run Turns(); run Uploads(); run Sweep(); run Host(); run Monitor() }
}
