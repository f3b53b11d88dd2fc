/* tests/spin/merge.pml - history and a layer become one file: a part of Turns. */
merge:
		atomic {
			skip;
			d_step {
				j = MAXJ;
				if
				:: runs ->
					x = top; n = 1;
					do
					:: x == BASE || x == NONE -> break
					:: else -> n++; x = q_on[x]
					od;
					l = NONE; nx = NONE;                 /* the ids of S and H */
					if
					:: n > 2 && (!wants_room || n >= CHAIN_MAX) ->
						layer_of_file(q_on[top]); l = y;
						if
						:: q_on[q_on[top]] != BASE && q_on[q_on[top]] != NONE -> layer_of_file(q_on[q_on[top]]); nx = y
						:: else
						fi
					:: else
					fi;
					if
					:: l != NONE && nx != NONE && l_on[l] == nx && path == top ->
						j = 0;
						do
						:: j < MAXJ && m_st[j] != 0 -> j++
						:: else -> break
						od
					:: else
					fi;
					if
					:: j < MAXJ ->
						born++;
						m_st[j] = M_PLANNED; m_up[j] = l; m_upf[j] = l_file[l]; m_lo[j] = nx; m_lof[j] = l_file[nx];
						m_file[j] = born; m_top[j] = top; m_below[j] = q_on[l_file[nx]]
					:: else
					fi
				:: else
				fi;
				l = 0; nx = 0; x = 0; y = 0
			}
			if
			:: j == MAXJ && wants_room -> goto create
			:: j == MAXJ && !wants_room -> goto idle
			:: else
			fi
		}
		/* 2, 3 copy and compare, with references to what is read */
		d_step {
			if
			:: !BUG(2) -> refs[m_up[j]]++; refs[m_lo[j]]++
			:: else
			fi
		}
		atomic {
			d_step {
				if
				:: runs && path == m_top[j] && node[path] -> there[m_file[j]] = true; on[m_file[j]] = m_below[j]
				:: else -> failed = true
				fi
			}
			if
			:: !failed ->
				d_step {
					assert(there[m_upf[j]] && there[m_lof[j]]);     /* nobody takes away what is read */
					delta[m_file[j]] = delta[m_upf[j]] | (BUG(8) -> 0 : delta[m_lof[j]])
				}
			:: else
			fi
		}
		atomic {
			d_step {
				if
				:: !BUG(2) -> refs[m_up[j]] = refs[m_up[j]] - 1; refs[m_lo[j]] = refs[m_lo[j]] - 1
				:: else
				fi
			}
			if
			:: failed -> goto back_merge
			:: else
			fi
		}
		m_st[j] = M_COMPARED;
settle_merge:
		atomic {
			skip;
			d_step {
				if
				:: !runs -> stand = QEMU_NONE
				:: runs && (by_path || top == m_top[j]) && q_on[top] == m_upf[j] && q_on[m_upf[j]] == m_lof[j] -> stand = QEMU_LAYER
				:: runs && (by_path || top == m_top[j]) && q_on[top] == m_file[j] && q_on[m_file[j]] == m_below[j] -> stand = QEMU_NEXT
				:: else -> stand = QEMU_OTHER
				fi
			}
		}
		/* looked: 1 apart, 2 half, 3 together, 4 strange, 5 asked again */
		atomic {
			d_step {
				if
				:: stand == QEMU_NONE && runs && node[path] -> looked = 5
				:: stand != QEMU_NONE && !(runs && node[path]) -> looked = 5
				:: else ->
					looked = 4;
					x = on[m_top[j]];
					if
					:: path == m_top[j] && (x == m_upf[j] || (x == m_file[j] && there[m_file[j]])) && stand != QEMU_OTHER ->
						if
						:: stand == QEMU_NONE -> stand = (x == m_file[j] -> QEMU_NEXT : QEMU_LAYER); was_off = true
						:: else -> was_off = false
						fi;
						if
						:: stand == QEMU_LAYER -> looked = (x == m_upf[j] -> 1 : 4)
						:: else -> looked = (x == m_file[j] -> 3 : 2)
						fi
					:: else
					fi;
					if
					:: BUG(9) && !was_off && stand == QEMU_NEXT -> looked = 3   /* QEMU alone is looked at, not the header */
					:: else
					fi
				fi
			}
			if
			:: looked == 5 -> goto settle_merge
			:: looked == 4 -> m_st[j] = M_FOREIGN; goto idle
			:: looked == 3 -> goto tidy_merge
			:: looked == 2 -> goto header_merge
			:: else ->
				if
				:: was_off || failed || put -> goto back_merge
				:: else
				fi
			fi
		}
		/* 5 repoint */
		put = true;
		d_step {
			if
			:: runs && there[m_file[j]] -> node[m_file[j]] = true; q_on[m_file[j]] = m_below[j]
			:: else
			fi
		}
		d_step {
			if
			:: runs && node[m_file[j]] && (top == m_top[j]) -> q_on[top] = m_file[j]
			:: else
			fi
		}
		goto settle_merge;
header_merge:
		atomic {
			skip;
			d_step {
				if
				:: runs && top == m_top[j] -> on[top] = m_file[j]
				:: else
				fi
			}
			goto settle_merge
		}
tidy_merge:
		atomic {
			skip;
			d_step {
				if
				:: runs ->
					forget_unseen();
					if
					:: !(range & (1 << m_upf[j])) -> node[m_upf[j]] = false; q_on[m_upf[j]] = NONE
					:: else
					fi;
					if
					:: !(range & (1 << m_lof[j])) -> node[m_lof[j]] = false; q_on[m_lof[j]] = NONE
					:: else
					fi
				:: else
				fi;
				x = 0
			}
		}
		/* 9 write down */
		d_step {
			i = BASE; good = false;
			do
			:: i < MAXF ->
				if
				:: l_file[i] != NONE && l_on[i] == m_up[j] && l_st[i] == L_SEALED -> good = true   /* a branch */
				:: else
				fi;
				i++
			:: else -> break
			od;
			x = m_file[j];
			if
			:: good && !BUG(11) ->
				l_st[x] = L_SEALED; l_file[x] = x; l_on[x] = l_on[m_lo[j]]; l_par[x] = m_up[j];
				i = snapshots;
				do
				:: i > 0 && s_st[i - 1] != S_TAKEN -> i--
				:: else -> break
				od;
				s_on[i - 1] = x
			:: else ->
				l_file[m_up[j]] = x; l_on[m_up[j]] = l_on[m_lo[j]]
			fi;
			m_st[j] = M_RECORDED; sweep_due = true
		}
		d_step { put = false; failed = false; looked = 0; stand = 0; was_off = false }
		/* "once more", until there is nothing to merge; a merge that was asked for is enough here */
		if
		:: wants_room -> goto merge
		:: else -> goto idle
		fi;

resume_merge:
		if
		:: m_st[j] == M_COMPARED -> goto settle_merge
		:: else -> failed = true
		fi;
back_merge:
		atomic {
			skip;
			d_step {
				if
				:: runs ->
					forget_unseen();
					if
					:: !(range & (1 << m_file[j])) -> node[m_file[j]] = false; q_on[m_file[j]] = NONE
					:: else
					fi
				:: else
				fi
			}
		}
		atomic {
			d_step {
				looked = 0;
				if
				:: node[m_file[j]] -> looked = 5        /* a QEMU has it open: unsettled */
				:: else ->
					if
					:: there[m_file[j]] -> unlink(m_file[j])
					:: else
					fi;
					forget_merge(j)
				fi
			}
			if
			:: looked == 5 && m_st[j] == M_COMPARED -> goto settle_merge
			:: looked == 5 && m_st[j] != M_COMPARED -> goto back_merge
			:: else -> goto idle
			fi
		}
