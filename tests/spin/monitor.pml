/* tests/spin/monitor.pml - what must be true at every moment. */
inline check_rebuildable(k)
{
	/* What a row names is there. */
	x = s_layer[k];
	do
	:: x == BASE || x == NONE -> break
	:: else -> assert(l_file[x] == NONE || there[l_file[x]]); x = l_par[x]
	od;
	if
	:: s_st[k] == S_TAKEN && l_fold[s_layer[k]] == NONE ->
		by_rows(s_layer[k]);
		if
		:: good ->
			assert(c == s_want[k]);
			/* The headers say the same: a disk that goes back to it is started by them. */
			x = s_layer[k];
			do
			:: x == BASE -> break
			:: else -> assert(on[l_file[x]] == (l_on[x] == BASE -> BASE : l_file[l_on[x]])); x = l_on[x]
			od
		:: else ->
			by_store(s_layer[k]);
			assert(good && c == s_want[k])          /* every restore point that is listed is rebuildable */
		fi;
		if
		:: s_man[k] -> by_store(s_layer[k]); assert(good && c == s_want[k])
		:: else
		fi
	:: else
	fi
}

proctype Monitor()
{
	byte k;

	do
	:: d_step {
		k = 0;
		do
		:: k < snapshots -> check_rebuildable(k); k++
		:: else -> break
		od;
		k = 0;
		/* What a start would find. */
		by_headers(path);
		assert(good && n <= CHAIN_MAX && c == live);
		/* What QEMU has. */
		if
		:: runs ->
			x = top; c = 0; n = 0;
			do
			:: x == BASE -> n++; break
			:: else -> assert(x != NONE && there[x] && n < CHAIN_MAX); c = c | delta[x]; n++; x = q_on[x]
			od;
			assert(n <= CHAIN_MAX && c == live)
		:: else
		fi;
		/* At rest each file is listed, or gone. */
		if
		:: alive && !turn_busy && !upload_busy && !sweep_busy && !sweep_due && !MAY_BEGIN ->
			i = BASE + 1;
			do
			:: i < MAXF ->
				is_listed = !there[i] || path == i;
				y = BASE + 1;
				do
				:: y < MAXF -> is_listed = is_listed || l_file[y] == i; y++
				:: else -> break
				od;
				y = 0;
				do
				:: y < MAXJ -> is_listed = is_listed || (m_st[y] != 0 && (m_upf[y] == i || m_lof[y] == i || m_file[y] == i)); y++
				:: else -> break
				od;
				assert(is_listed);
				i++
			:: else -> break
			od
		:: else
		fi;
		x = 0; y = 0; c = 0; n = 0; i = 0 }
	od
}
