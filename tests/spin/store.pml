/* tests/spin/store.pml - the shared store: uploads of two hosts, pruning, and collections of garbage beside them, without a lock.
 *
 * An object is absent, old or young. What an upload has put, or found and made young, stays young while it goes on: a collection's grace is
 * longer than an upload takes. That, and that nothing comes between the last look at an object's age and its removal, is assumed here
 * (docs/store.md); everything else may stop, die and be overtaken anywhere. Layers share a chunk; snapshots share a layer.
 *
 * BUG=N as in chain.pml. */
#define ABSENT 0
#define OLD    1
#define YOUNG  2
#define CHUNKS 3
#define LAYERS 3 /* 0 and 1 are the first host's, 2 is the other's; snapshot N is the newest on layer N */

c_decl {
\#include <stdio.h>
\#include <stdlib.h>
static int bug, runs_max, deaths_max;
}
#define BUG(n) c_expr { bug == n }
#define MAY_COLLECT c_expr { now.collections < runs_max }
#define MAY_DIE     c_expr { now.deaths < deaths_max }

#define needs(l)    (l == 0 -> 3 : (l == 1 -> 6 : 2)) /* chunks of a layer */
#define manifest(l) (l == 0 -> 1 : (l == 1 -> 3 : 4))  /* layers of a snapshot */

byte chunk[CHUNKS], map[LAYERS];
bool listed[LAYERS];     /* the manifest of a snapshot is there */
bool uploaded[LAYERS];   /* what the catalogue of the layer's host says */
bool over[LAYERS];       /* its snapshot is in the store, or was given up, or pruned */
bool dies[LAYERS];       /* the host whose last layer it is */
byte collections, deaths, busy;
bool collecting;

hidden byte i, k;

inline put_or_find(o)
{
	if
	:: o == ABSENT || !BUG(24) -> o = YOUNG
	:: else
	fi
}

proctype Upload(byte first; byte last)
{
	byte l, c;
	bool mine, gone;

again:
	{
		l = first;
		do
		:: l <= last && over[l] -> l++
		:: l <= last && !over[l] ->
			d_step { busy++; mine = true; c = 0 }
			if
			:: BUG(21) -> listed[l] = true
			:: else
			fi;
			if
			:: !uploaded[l] ->
				/* send, the map, confirm */
				do
				:: d_step { c < CHUNKS ->
					do
					:: c < CHUNKS && !(needs(l) & (1 << c)) -> c++
					:: else -> break
					od;
					if
					:: c < CHUNKS -> put_or_find(chunk[c]); c++
					:: else
					fi }
				:: c >= CHUNKS -> break
				od;
				put_or_find(map[l]);
				c = 0;
				do
				:: d_step { c < CHUNKS ->
					do
					:: c < CHUNKS && !(needs(l) & (1 << c)) -> c++
					:: else -> break
					od;
					if
					:: c < CHUNKS -> put_or_find(chunk[c]); c++
					:: else
					fi }
				:: c >= CHUNKS -> break
				od;
				skip;
				d_step { uploaded[l] = true; c = 0 }
			:: else
			fi;
			/* the manifest: all layers are there, and young; once more when it is */
			do
			:: d_step { c < LAYERS ->
				if
				:: (manifest(l) & (1 << c)) && map[c] == ABSENT && !BUG(27) -> gone = true
				:: (manifest(l) & (1 << c)) && map[c] != ABSENT && !BUG(24) -> map[c] = YOUNG
				:: else
				fi;
				c++ }
			:: c >= LAYERS -> break
			od;
			if
			:: !gone -> listed[l] = true
			:: else /* it has to be uploaded again: an error, and no manifest */
			fi;
			skip;
			d_step { over[l] = true; busy--; mine = false; gone = false; l++; c = 0 }
		:: else -> break
		od;
		(false)
	} unless { (dies[last]) };
	d_step { dies[last] = false; busy = (mine -> busy - 1 : busy); mine = false; gone = false; l = 0; c = 0 }
	goto again
}

proctype Death()
{
	do
	:: d_step { MAY_DIE -> deaths++; dies[1] = true }
	:: d_step { MAY_DIE -> deaths++; dies[2] = true }
	od
}

/* Things become old while nothing is sent; and not while a collection goes on, whose limit is a moment before it began. */
proctype Time()
{
	do
	:: d_step { busy == 0 && !collecting ->
		i = 0;
		do
		:: i < CHUNKS -> chunk[i] = (chunk[i] == YOUNG -> OLD : chunk[i]); i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < LAYERS -> map[i] = (map[i] == YOUNG -> OLD : map[i]); i++
		:: else -> break
		od;
		i = 0 }
	od
}

proctype Prune()
{
	d_step { listed[0] -> listed[0] = false }
}

inline read_manifests()
{
	i = 0;
	do
	:: i < LAYERS -> named = (listed[i] -> named | manifest(i) : named); i++
	:: else -> break
	od;
	i = 0
}

inline remove_maps()
{
	do
	:: c < LAYERS ->
		d_step {
			if
			:: (seen_maps & (1 << c)) && !(named & (1 << c)) && (map[c] == OLD || (map[c] == YOUNG && (BUG(23) || BUG(26)))) ->
				map[c] = ABSENT; refs = refs & ~(1 << c)
			:: else
			fi;
			c++
		}
	:: else -> break
	od
}

proctype Collect()
{
	byte seen_chunks, seen_maps, named, refs, c;

	do
	:: d_step { MAY_COLLECT -> collections++; collecting = true }
		d_step {
			/* what is there, with its age */
			i = 0;
			do
			:: i < CHUNKS ->
				if
				:: chunk[i] == OLD || (BUG(23) && chunk[i] != ABSENT) -> seen_chunks = seen_chunks | (1 << i)
				:: else
				fi;
				i++
			:: else -> break
			od;
			i = 0;
			do
			:: i < LAYERS ->
				if
				:: map[i] == OLD || (BUG(23) && map[i] != ABSENT) -> seen_maps = seen_maps | (1 << i)
				:: else
				fi;
				i++
			:: else -> break
			od;
			i = 0
		}
		/* then what names it: maps, and manifests */
		d_step {
			i = 0;
			do
			:: i < LAYERS -> refs = (map[i] != ABSENT -> refs | (1 << i) : refs); i++
			:: else -> break
			od;
			i = 0
		}
		d_step { named = 0; read_manifests() }
		if
		:: BUG(25) -> skip
		:: else -> c = 0; remove_maps()
		fi;
		c = 0;
		do
		:: c < CHUNKS ->
			d_step {
				k = 0; i = 0;
				do
				:: i < LAYERS ->
					/* by the maps that are still there; with BUG 25 by those that are named */
					k = (((refs & (1 << i)) && (!BUG(25) || (named & (1 << i)))) -> k | needs(i) : k);
					i++
				:: else -> break
				od;
				if
				:: (seen_chunks & (1 << c)) && !(k & (1 << c)) && (chunk[c] == OLD || (chunk[c] == YOUNG && (BUG(23) || BUG(26)))) ->
					chunk[c] = ABSENT
				:: else
				fi;
				c++; k = 0; i = 0
			}
		:: else -> break
		od;
		if
		:: BUG(25) -> c = 0; remove_maps()
		:: else
		fi;
		skip;
		d_step { seen_chunks = 0; seen_maps = 0; named = 0; refs = 0; c = 0; collecting = false }
	od
}

/* What a manifest names is there, and what that needs. */
proctype Monitor()
{
	byte m;

	do
	:: d_step {
		m = 0;
		do
		:: m < LAYERS ->
			if
			:: listed[m] ->
				i = 0;
				do
				:: i < LAYERS ->
					if
					:: manifest(m) & (1 << i) ->
						assert(map[i] != ABSENT);
						k = 0;
						do
						:: k < CHUNKS -> assert(!(needs(i) & (1 << k)) || chunk[k] != ABSENT); k++
						:: else -> break
						od
					:: else
					fi;
					i++
				:: else -> break
				od
			:: else
			fi;
			m++
		:: else -> break
		od;
		m = 0; i = 0; k = 0 }
	od
}

init
{
	c_code {
		const char *w = getenv("BUG");
		bug = w ? atoi(w) : 0;
		w = getenv("BOUNDS");
		if (!w || sscanf(w, "%d %d", &runs_max, &deaths_max) != 2)
			Uerror("BOUNDS is not set");
	};
	/* What was sent once, and is named by nobody. */
	if
	:: chunk[1] = OLD
	:: d_step { chunk[1] = OLD; chunk[0] = OLD }
	:: d_step { chunk[0] = OLD; chunk[1] = OLD; map[0] = OLD }
	:: skip
	fi;
	atomic { run Upload(0, 1); run Upload(2, 2); run Death(); run Time(); run Prune(); run Collect(); run Monitor() }
}
