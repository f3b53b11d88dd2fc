/* tests/spin/uploads.pml - layers go to the store, one snapshot after the other. */
#define is_waiting(k) (s_st[k] == S_TAKEN && !s_man[k] && !s_skip[k])

proctype Uploads()
{
	byte k, id, got;
	short reads, folds;
	bool failed;

again:
	{
		(alive);
		do
		:: d_step {
			MAY_LOAD && (is_waiting(0) || is_waiting(1) || is_waiting(2) || is_waiting(3) || is_waiting(4)) ->
			uploads++;
			k = 0;
			do
			:: !is_waiting(k) -> k++
			:: else -> break
			od;
			upload_busy = true; id = s_layer[k];
			x = id;
			do
			:: x == BASE || x == NONE || BUG(2) -> break
			:: else -> refs[x]++; x = l_par[x]
			od;
			x = 0 }
plan:
			if
			:: s_skip[k] = true; goto over           /* the store refuses, for a day */
			:: skip
			fi;
			d_step {
				reads = 0; folds = 0; failed = false; got = 0;
				if
				:: l_up[id]
				:: !l_up[id] && l_fold[id] != NONE -> failed = true
				:: else ->
					range = (1 << id);
					x = l_par[id];
					do
					:: x == BASE || x == NONE || l_up[x] -> break
					:: else -> range = range | (1 << x); folds = folds | (1 << x); x = l_par[x]
					od;
					x = id;
					do
					:: x == BASE || x == NONE || !(range & (1 << x)) -> break
					:: else ->
						if
						:: l_file[x] == NONE -> failed = true; break
						:: else -> reads = reads | (1 << l_file[x]); x = l_on[x]
						fi
					od
				fi;
				x = 0; range = 0
			}
			if
			:: failed -> s_skip[k] = true; goto over
			:: !failed && reads == 0 -> goto manifest
			:: else
			fi;
			if
			:: BUG(1) -> d_step { l_up[id] = true; s_man[k] = true }     /* before the last chunk */
			:: else
			fi;
			d_step {
				i = BASE + 1;
				do
				:: i < MAXF ->
					if
					:: reads & (1 << i) ->
						assert(there[i]);                     /* nobody takes away what is read */
						got = got | delta[i]
					:: else
					fi;
					i++
				:: else -> break
				od; i = 0
			}
			d_step {
				st[id] = got; l_up[id] = true;
				i = BASE + 1;
				do
				:: i < MAXF ->
					if
					:: folds & (1 << i) -> l_fold[i] = id
					:: else
					fi;
					i++
				:: else -> break
				od;
				reads = 0; folds = 0; got = 0
			}
			goto plan;
manifest:
			skip;
			d_step {
				by_store(s_layer[k]);
				if
				:: good -> s_man[k] = true
				:: else -> s_skip[k] = true
				fi
			}
over:
			skip;
			d_step {
				x = id;
				do
				:: x == BASE || x == NONE || BUG(2) -> break
				:: else -> refs[x] = refs[x] - 1; x = l_par[x]
				od;
				x = 0; k = 0; id = 0; reads = 0; folds = 0; got = 0; failed = false;
				upload_busy = false; sweep_due = true
			}
		od; i = 0
	} unless { (!alive) };
	d_step { k = 0; id = 0; reads = 0; folds = 0; got = 0; failed = false; upload_busy = false; parked++ }
	(parked == 0);
	goto again
}
