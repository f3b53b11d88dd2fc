/* tests/spin/begin.pml - where a history begins. */
/* Where it begins. Layers 2 and 3 are those of the first two restore points; 4 is the top. */
inline two_restore_points()
{
	born = 4; path = 4;
	there[3] = true; on[3] = 2; there[4] = true; on[4] = 3;
	delta[2] = 1; delta[3] = 2; delta[4] = 4; writes = 3; live = 7;
	snapshots = 2;
	s_st[0] = S_TAKEN; s_layer[0] = 2; s_next[0] = 3; s_want[0] = 1;
	s_st[1] = S_TAKEN; s_layer[1] = 3; s_next[1] = 4; s_want[1] = 3;
	l_st[2] = L_SEALED; l_file[2] = 2; l_on[2] = BASE; l_par[2] = BASE;
	l_st[3] = L_SEALED; l_file[3] = 3; l_on[3] = 2; l_par[3] = 2
}

/* Layer 4 was left for a new top over layer f: a rollback to snapshot to. */
inline rolled_back(to, f)
{
	born++; path = born;
	there[path] = true; on[path] = l_file[f];
	l_st[4] = L_SEALED; l_file[4] = 4; l_on[4] = 3; l_par[4] = 3;
	s_st[2] = S_TAKEN; s_layer[2] = 4; s_next[2] = path; s_on[2] = f; s_want[2] = live; snapshots = 3;
	live = s_want[to]
}

/* 2 and 3 are in file 5; file 2 is still needed. */
inline merged()
{
	born = 5; there[5] = true; delta[5] = 3; on[5] = BASE; on[4] = 5;
	there[3] = false; delta[3] = 0; on[3] = NONE;
	m_st[0] = M_RECORDED; m_up[0] = 3; m_upf[0] = 3; m_lo[0] = 2; m_lof[0] = 2; m_file[0] = 5; m_below[0] = BASE; m_top[0] = 4;
	l_file[3] = 5; l_on[3] = BASE
}
