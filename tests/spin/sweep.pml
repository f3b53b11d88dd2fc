/* tests/spin/sweep.pml - files that nobody needs go, and what moultd's death is. */
inline needs_lower(j)
{
	good = false; i = BASE + 1;
	do
	:: i < MAXF ->
		if
		:: (i == m_lo[j] || i == m_up[j]) && l_st[i] != 0 && !l_up[i] && l_fold[i] == NONE -> good = true
		:: l_on[i] == m_lo[j] && l_file[i] != NONE -> good = true
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0;
	do
	:: i < snapshots ->
		if
		:: s_st[i] == S_TAKEN && !s_man[i] && (s_layer[i] == m_lo[j] || s_layer[i] == m_up[j]) && l_fold[s_layer[i]] == NONE -> good = true
		:: s_on[i] == m_lo[j] && s_st[i] != 0 && !BUG(3) ->
			/* unless a newer one of the disk was taken */
			y = i + 1; c = 0;
			do
			:: y < snapshots ->
				if
				:: s_st[y] == S_TAKEN -> c = 1
				:: else
				fi;
				y++
			:: else -> break
			od;
			if
			:: c == 0 -> good = true
			:: else
			fi
		:: else
		fi;
		i++
	:: else -> break
	od
}

/* The first row from j on of which files go, and which. The row of the layer says so first. */
inline find_work()
{
	up = false; lo = false;
	do
	:: j < MAXJ && !up && !lo ->
		if
		:: m_st[j] == M_RECORDED ->
			up = (refs[m_up[j]] == 0); lo = (refs[m_lo[j]] == 0);
			i = BASE + 1;
			do
			:: i < MAXF -> up = up && l_file[i] != m_upf[j]; i++
			:: else -> break
			od;
			needs_lower(j);
			lo = lo && !good;
			if
			:: lo && l_file[m_lo[j]] == m_lof[j] && !BUG(13) -> l_file[m_lo[j]] = NONE; l_on[m_lo[j]] = NONE
			:: else
			fi
		:: else
		fi;
		if
		:: up || lo
		:: else -> j++
		fi
	:: else -> break
	od;
	sweep_busy = (j < MAXJ);
	j = (j < MAXJ -> j : 0);
	y = 0
}

proctype Sweep()
{
	byte j;
	bool up, lo, kept;

again:
	{
		(alive);
		do
		:: d_step { sweep_due && !sweep_busy -> sweep_due = false; j = 0; find_work() }
		:: d_step { sweep_busy ->
			if
			:: up && there[m_upf[j]] && node[m_upf[j]] -> kept = true
			:: up && there[m_upf[j]] && !node[m_upf[j]] -> unlink(m_upf[j])
			:: else
			fi }
			d_step {
				if
				:: lo && !kept && there[m_lof[j]] && node[m_lof[j]] -> kept = true
				:: lo && !kept && there[m_lof[j]] && !node[m_lof[j]] -> unlink(m_lof[j])
				:: else
				fi
			}
			d_step {
				if
				:: up && lo && !kept -> forget_merge(j)
				:: else
				fi;
				kept = false; j++;
				find_work()
			}
		od
	} unless { (!alive) };
	d_step { j = 0; up = false; lo = false; kept = false; sweep_busy = false; parked++ }
	(parked == 0);
	goto again
}

proctype Host()
{
	do
	:: d_step { alive && MAY_DIE ->
		deaths++; alive = false;
		i = 0;
		do
		:: i < MAXF -> refs[i] = 0; i++
		:: else -> break
		od; i = 0 }
		d_step { parked == 3 -> parked = 0; alive = true; sweep_due = true; turn_busy = true }
	od
}
